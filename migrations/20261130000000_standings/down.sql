ALTER TABLE objects DROP COLUMN done;
DROP TABLE standings;

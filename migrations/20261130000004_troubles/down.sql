ALTER TABLE standings DROP COLUMN trouble_at;
ALTER TABLE standings DROP COLUMN trouble;

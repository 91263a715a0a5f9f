DROP TABLE renders;
ALTER TABLE environments DROP COLUMN good_commit;
ALTER TABLE environments DROP COLUMN applied_commit;

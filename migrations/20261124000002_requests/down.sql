DROP TABLE commands;
DROP TABLE approvals;
ALTER TABLE environments DROP COLUMN requested;

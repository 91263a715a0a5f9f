ALTER TABLE renders DROP COLUMN ran_key;
ALTER TABLE renders DROP COLUMN ran_body;

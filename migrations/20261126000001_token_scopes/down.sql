ALTER TABLE tokens DROP COLUMN pull_request;
ALTER TABLE tokens DROP COLUMN repository;

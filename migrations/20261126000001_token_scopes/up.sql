-- A token may be for one repository, or for one of its pull requests, and ends with it.
ALTER TABLE tokens ADD COLUMN repository TEXT;
ALTER TABLE tokens ADD COLUMN pull_request BIGINT;

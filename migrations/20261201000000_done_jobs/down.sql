ALTER TABLE objects DROP COLUMN once;
ALTER TABLE deployments DROP COLUMN done_jobs;

-- The Jobs that were seen to complete for a commit, as JSON: the digest of each by its name. What another commit applies
-- in between does not undo their work.
ALTER TABLE deployments ADD COLUMN done_jobs TEXT;
-- It is a Job that is done once for all commits.
ALTER TABLE objects ADD COLUMN once BOOLEAN NOT NULL DEFAULT FALSE;

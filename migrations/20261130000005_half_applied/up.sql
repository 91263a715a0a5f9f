-- What is applied is not all in the cluster yet: a process that is stopped in between leaves it to the next one.
ALTER TABLE standings ADD COLUMN half_applied BOOLEAN NOT NULL DEFAULT FALSE;

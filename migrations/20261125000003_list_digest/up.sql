-- Of the open pull requests that the last list named: while the rows say the same, GitHub's tag of it can be trusted.
ALTER TABLE repositories ADD COLUMN pulls_digest TEXT;

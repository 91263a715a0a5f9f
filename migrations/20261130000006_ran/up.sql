-- What ran of a commit, while something else is tried of it: the same commit may have another image by then.
ALTER TABLE renders ADD COLUMN ran_body TEXT;
ALTER TABLE renders ADD COLUMN ran_key TEXT;

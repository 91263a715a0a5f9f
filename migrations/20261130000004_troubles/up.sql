-- What a pass over the environment failed of last, as a sentence, and when.
ALTER TABLE standings ADD COLUMN trouble TEXT;
ALTER TABLE standings ADD COLUMN trouble_at BIGINT;

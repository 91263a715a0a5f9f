-- Objects are applied in phases: each waits for what the ones before it started.
ALTER TABLE deployments ADD COLUMN phase BIGINT NOT NULL DEFAULT 0;
ALTER TABLE objects ADD COLUMN phase BIGINT NOT NULL DEFAULT 0;
-- What a render was made from, as a digest: equal where the same would come of it again.
ALTER TABLE renders ADD COLUMN key TEXT;

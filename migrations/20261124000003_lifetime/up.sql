-- How long environments last, and how many there may be at once.

-- The last commit, request, look at the logs or visit.
ALTER TABLE environments ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
-- Somebody asked for it to stay until then.
ALTER TABLE environments ADD COLUMN keep_until BIGINT;
-- What the recipe says of the environment as a whole, under the operator's limits, as JSON; NULL before it was read.
ALTER TABLE environments ADD COLUMN terms TEXT;
-- Since when it waits for a place, and since when it has one.
ALTER TABLE environments ADD COLUMN queued_at BIGINT;
ALTER TABLE environments ADD COLUMN admitted_at BIGINT;

UPDATE environments SET used_at = updated_at;
UPDATE environments SET admitted_at = updated_at WHERE status IN ('deploying', 'running', 'failed', 'deleting');

CREATE INDEX environments_queue ON environments (queued_at) WHERE queued_at IS NOT NULL;
CREATE INDEX environments_admitted ON environments (admitted_at) WHERE admitted_at IS NOT NULL;

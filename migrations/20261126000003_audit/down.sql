CREATE TABLE history (
    id TEXT NOT NULL PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT
);
-- A refusal would read as done, and what concerns no environment has no place there.
INSERT INTO history (id, environment_id, at, actor, kind, detail)
    SELECT id, environment_id, at, actor, kind, detail FROM events
    WHERE environment_id IS NOT NULL AND refusal IS NULL;
DROP TABLE events;
ALTER TABLE history RENAME TO events;
CREATE INDEX events_history ON events (environment_id, at);

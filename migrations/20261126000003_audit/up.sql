-- The history is also the audit log: by what way somebody asked, what was refused and why, and what concerns no
-- environment. Neither database adds all of that to a table in place, so it is made anew.
CREATE TABLE history (
    id TEXT NOT NULL PRIMARY KEY,
    environment_id TEXT REFERENCES environments (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT,
    interface TEXT,
    address TEXT,
    refusal TEXT
);
INSERT INTO history (id, environment_id, at, actor, kind, detail)
    SELECT id, environment_id, at, actor, kind, detail FROM events;
DROP TABLE events;
ALTER TABLE history RENAME TO events;
CREATE INDEX events_history ON events (environment_id, at);
CREATE INDEX events_at ON events (at);

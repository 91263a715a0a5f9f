-- What passes remember of an environment, beside what its row shows. No row: nothing.
CREATE TABLE standings (
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    -- What is applied has no pods until somebody wants it again. Until now only the reason said so, and a newer one hid it.
    asleep BOOLEAN NOT NULL DEFAULT FALSE,
    -- No commit has run in this namespace yet.
    fresh BOOLEAN NOT NULL DEFAULT FALSE,
    -- Somebody asked then to begin anew: the namespace that is there goes before anything is deployed again.
    reset_at BIGINT,
    -- Since when nothing of what ran is ready.
    down_since BIGINT,
    PRIMARY KEY (environment_id)
);
INSERT INTO standings (environment_id, asleep) SELECT id, TRUE FROM environments WHERE reason = 'asleep';
-- A Job that was seen to complete, whatever became of it since.
ALTER TABLE objects ADD COLUMN done BOOLEAN NOT NULL DEFAULT FALSE;

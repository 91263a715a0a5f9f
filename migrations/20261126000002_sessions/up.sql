-- What browsers hold: the dashboard's session, a code that takes it over to a preview's host, and the session there.
CREATE TABLE sessions (
    hash TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    environment_id TEXT REFERENCES environments (id) ON DELETE CASCADE,
    -- Who it is, as JSON: looked up anew with each use.
    granted TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_expiry ON sessions (expires_at);

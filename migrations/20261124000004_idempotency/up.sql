-- Requests that carried a key: asked for again with the same key, they change nothing.
CREATE TABLE idempotency (
    subject TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    -- Hex SHA-256 of what was asked for.
    request_digest TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (subject, idempotency_key)
);

CREATE INDEX deliveries_pull_request ON deliveries (repository, number, received_at);

-- The last lines of a deployment that failed: its pods go, and what they said is asked for afterwards.
CREATE TABLE kept_logs (
    deployment_id TEXT NOT NULL REFERENCES deployments (id) ON DELETE CASCADE,
    place BIGINT NOT NULL,
    pod TEXT NOT NULL,
    container TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (deployment_id, place)
);

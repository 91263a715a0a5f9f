-- What may be sent to GitHub, shared by all processes, and what it has of our deployments.

CREATE TABLE github_budgets (
    -- The App's installation; 0 for a token.
    app_installation_id BIGINT NOT NULL PRIMARY KEY,
    -- Nothing is sent before: GitHub asked for it.
    blocked_until BIGINT NOT NULL,
    -- Writes in the minute and in the hour that began then, and in the ones before them.
    minute_began BIGINT NOT NULL,
    minute_writes BIGINT NOT NULL,
    minute_before BIGINT NOT NULL,
    hour_began BIGINT NOT NULL,
    hour_writes BIGINT NOT NULL,
    hour_before BIGINT NOT NULL
);

-- GitHub's number of the deployment, and the state that was written there last.
ALTER TABLE deployments ADD COLUMN github_id BIGINT;
ALTER TABLE deployments ADD COLUMN github_state TEXT;

-- What a failed deployment goes back to.

-- Whose objects were applied last, perhaps not all of them.
ALTER TABLE environments ADD COLUMN applied_commit TEXT;
-- The last commit that ran.
ALTER TABLE environments ADD COLUMN good_commit TEXT;

CREATE TABLE renders (
    deployment_id TEXT NOT NULL PRIMARY KEY REFERENCES deployments (id) ON DELETE CASCADE,
    -- Everything that was applied for the deployment, as JSON.
    body TEXT NOT NULL
);

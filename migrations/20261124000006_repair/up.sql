-- What one process among all does for all of them, and what it remembers of it.

CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    -- When it was done last.
    done_at BIGINT NOT NULL
);

-- When its open pull requests were listed last, and GitHub's tag of that list.
ALTER TABLE repositories ADD COLUMN swept_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pulls_etag TEXT;

-- Reads of the sweeps in the hour that began then.
ALTER TABLE github_budgets ADD COLUMN sweep_began BIGINT NOT NULL DEFAULT 0;
ALTER TABLE github_budgets ADD COLUMN sweep_reads BIGINT NOT NULL DEFAULT 0;

-- Namespaces with our label that no row is for.
CREATE TABLE orphans (
    namespace TEXT NOT NULL PRIMARY KEY,
    found_at BIGINT NOT NULL,
    removed_at BIGINT
);

-- When what is in the cluster was last held against what was applied.
ALTER TABLE environments ADD COLUMN checked_at BIGINT NOT NULL DEFAULT 0;

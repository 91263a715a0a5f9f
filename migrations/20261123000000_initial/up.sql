-- One set of migrations for SQLite and PostgreSQL: TEXT, BIGINT and BOOLEAN only, times as Unix milliseconds.

CREATE TABLE installation (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Labels everything of ours in the cluster.
    installation_id TEXT NOT NULL,
    -- UID of the kube-system namespace of the cluster that the rows describe; set at the first contact.
    cluster_id TEXT,
    -- The oldest schema generation whose code may still use these tables.
    oldest_generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE repositories (
    -- GitHub's number: a rename changes nothing.
    github_id BIGINT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    app_installation_id BIGINT,
    default_branch TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'removed', 'suspended')),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (owner, name)
);
CREATE INDEX repositories_app_installation ON repositories (app_installation_id);

CREATE TABLE pull_requests (
    -- GitHub's number, unique over all repositories.
    github_id BIGINT NOT NULL PRIMARY KEY,
    repository_id BIGINT NOT NULL REFERENCES repositories (github_id) ON DELETE CASCADE,
    number BIGINT NOT NULL CHECK (number > 0),
    title TEXT NOT NULL,
    author TEXT NOT NULL,
    head_sha TEXT NOT NULL,
    head_ref TEXT NOT NULL,
    base_ref TEXT NOT NULL,
    from_fork BOOLEAN NOT NULL,
    draft BOOLEAN NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'merged')),
    -- A JSON array of names.
    labels TEXT NOT NULL,
    github_updated_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (repository_id, number)
);

CREATE TABLE environments (
    id TEXT NOT NULL PRIMARY KEY,
    pull_request_id BIGINT NOT NULL UNIQUE REFERENCES pull_requests (github_id)
        ON UPDATE CASCADE ON DELETE CASCADE,
    namespace TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('pending', 'deploying', 'running', 'failed', 'deleting', 'deleted')),
    reason TEXT,
    message TEXT,
    -- Counts what was asked for; a pass writes a status only where it still is the count that it saw.
    revision BIGINT NOT NULL,
    -- The pull request must be read from GitHub before the next decision.
    refresh BOOLEAN NOT NULL,
    -- What keeps an open pull request without an environment.
    hold TEXT NOT NULL CHECK (hold IN ('none', 'removed_by_hand', 'expired')),
    serving_commit TEXT,
    comment_id BIGINT,
    comment_digest TEXT,
    -- When the next pass is owed; NULL where none is.
    due_at BIGINT,
    lease_token TEXT,
    lease_until BIGINT NOT NULL,
    -- Passes that failed in a row: the exponent of the next wait.
    failures BIGINT NOT NULL,
    -- When a pass last saw the cluster.
    observed_at BIGINT,
    deletion_started_at BIGINT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX environments_due ON environments (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX environments_status ON environments (status, id);

CREATE TABLE deployments (
    id TEXT NOT NULL PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    commit_sha TEXT NOT NULL CHECK (length(commit_sha) = 40),
    status TEXT NOT NULL CHECK (status IN ('pending', 'deploying', 'succeeded', 'failed', 'superseded', 'cancelled')),
    reason TEXT,
    message TEXT,
    -- A round is three attempts; asking again by hand begins the next.
    round BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    attempt_deadline BIGINT,
    -- Set between two attempts: when the next one begins.
    retry_at BIGINT,
    -- .preview.yaml as it is at the commit.
    recipe TEXT,
    -- What the current attempt has applied; NULL until all of it is.
    applied_digest TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    UNIQUE (environment_id, commit_sha)
);
CREATE INDEX deployments_history ON deployments (environment_id, created_at);

-- The inventory: what was, or is just about to be, applied for an environment.
CREATE TABLE objects (
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    api_version TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (environment_id, api_version, kind, name)
);

CREATE TABLE deliveries (
    -- GitHub's X-GitHub-Delivery.
    guid TEXT NOT NULL PRIMARY KEY,
    event TEXT NOT NULL,
    action TEXT,
    repository TEXT,
    number BIGINT,
    head_sha TEXT,
    received_at BIGINT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('recorded', 'ignored')),
    reason TEXT
);
CREATE INDEX deliveries_received ON deliveries (received_at);

CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT
);
CREATE INDEX events_history ON events (environment_id, at);

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL,
    -- Hex SHA-256 of the token, which has 256 random bits: no salt or stretching is needed.
    hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'operator')),
    -- A JSON array of names.
    teams TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE engines (
    id TEXT NOT NULL PRIMARY KEY,
    heartbeat BIGINT NOT NULL
);

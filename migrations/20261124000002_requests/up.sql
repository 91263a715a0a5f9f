-- What people ask for in words: previews that the recipe leaves out, strangers' commits, commands in comments.

-- Somebody asked for the environment: what the recipe leaves out does not count.
ALTER TABLE environments ADD COLUMN requested BOOLEAN NOT NULL DEFAULT FALSE;

-- Commits of forks that may run.
CREATE TABLE approvals (
    pull_request_id BIGINT NOT NULL REFERENCES pull_requests (github_id) ON UPDATE CASCADE ON DELETE CASCADE,
    commit_sha TEXT NOT NULL CHECK (length(commit_sha) = 40),
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (pull_request_id, commit_sha)
);

CREATE TABLE commands (
    -- GitHub's number of the comment: however often it is delivered, a command is run once.
    comment_id BIGINT NOT NULL PRIMARY KEY,
    delivery_guid TEXT NOT NULL,
    -- GitHub's numbers, because the pull request itself may not be known yet.
    repository_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    author TEXT NOT NULL,
    line TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- What became of it; NULL until a pass has run it.
    accepted BOOLEAN,
    answer TEXT,
    -- When its author was told.
    answered_at BIGINT
);
CREATE INDEX commands_open ON commands (repository_id, number) WHERE answered_at IS NULL;

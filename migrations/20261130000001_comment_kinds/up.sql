-- Commands in reviews, whose numbers overlap those of comments, and several commands in one comment. Neither database can
-- give a table another primary key and keep what is in it, so it is made anew.
DROP INDEX commands_open;
ALTER TABLE commands RENAME TO commands_before;
CREATE TABLE commands (
    -- What the version before writes is in comments, one command each.
    kind TEXT NOT NULL DEFAULT 'comment',
    -- GitHub's number of the comment, among those of its kind: however often it is delivered, a command is run once.
    comment_id BIGINT NOT NULL,
    -- Which of the comment's commands it is.
    place BIGINT NOT NULL DEFAULT 0,
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
    answered_at BIGINT,
    PRIMARY KEY (kind, comment_id, place)
);
INSERT INTO commands (comment_id, delivery_guid, repository_id, number, author, line, created_at, accepted, answer, answered_at)
    SELECT comment_id, delivery_guid, repository_id, number, author, line, created_at, accepted, answer, answered_at
    FROM commands_before;
DROP TABLE commands_before;
CREATE INDEX commands_open ON commands (repository_id, number) WHERE answered_at IS NULL;

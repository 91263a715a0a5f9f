DROP INDEX commands_open;
ALTER TABLE commands RENAME TO commands_after;
CREATE TABLE commands (
    comment_id BIGINT NOT NULL PRIMARY KEY,
    delivery_guid TEXT NOT NULL,
    repository_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    author TEXT NOT NULL,
    line TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    accepted BOOLEAN,
    answer TEXT,
    answered_at BIGINT
);
INSERT INTO commands (comment_id, delivery_guid, repository_id, number, author, line, created_at, accepted, answer, answered_at)
    SELECT comment_id, delivery_guid, repository_id, number, author, line, created_at, accepted, answer, answered_at
    FROM commands_after WHERE kind = 'comment' AND place = 0;
DROP TABLE commands_after;
CREATE INDEX commands_open ON commands (repository_id, number) WHERE answered_at IS NULL;

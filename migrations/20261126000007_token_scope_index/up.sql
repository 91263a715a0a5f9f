-- Tokens end with their pull request, and follow a repository that is renamed.
CREATE INDEX tokens_of_scope ON tokens (repository, pull_request) WHERE repository IS NOT NULL;

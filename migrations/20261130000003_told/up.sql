-- What a deployment that is under way was last seen to wait for, as JSON: the reason, and its sentence without figures.
ALTER TABLE standings ADD COLUMN hitch TEXT;
-- Since when that is so, or that there is none.
ALTER TABLE standings ADD COLUMN hitch_since BIGINT;
-- What the pull request is told of it, as JSON.
ALTER TABLE standings ADD COLUMN told TEXT;
-- What was last written beside the state of GitHub's deployment.
ALTER TABLE deployments ADD COLUMN github_description TEXT;

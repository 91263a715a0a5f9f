-- What showed that a deployment runs, as JSON: images with their digests, and the URL's answer.
ALTER TABLE deployments ADD COLUMN readiness TEXT;

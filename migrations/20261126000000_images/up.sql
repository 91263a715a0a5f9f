-- A commit's images may still be built when it is to be deployed: those that were missing at the first look, as a JSON
-- list, and until when they are waited for. No list: nobody looked yet.
ALTER TABLE deployments ADD COLUMN awaited_images TEXT;
ALTER TABLE deployments ADD COLUMN images_deadline BIGINT;

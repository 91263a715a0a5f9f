ALTER TABLE deployments DROP COLUMN images_deadline;
ALTER TABLE deployments DROP COLUMN awaited_images;

ALTER TABLE pull_requests DROP COLUMN label_ids;

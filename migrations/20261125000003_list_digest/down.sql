ALTER TABLE repositories DROP COLUMN pulls_digest;

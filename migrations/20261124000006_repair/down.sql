ALTER TABLE environments DROP COLUMN checked_at;
DROP TABLE orphans;
ALTER TABLE github_budgets DROP COLUMN sweep_reads;
ALTER TABLE github_budgets DROP COLUMN sweep_began;
ALTER TABLE repositories DROP COLUMN pulls_etag;
ALTER TABLE repositories DROP COLUMN swept_at;
DROP TABLE leases;

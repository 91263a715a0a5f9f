DROP INDEX environments_admitted;
DROP INDEX environments_queue;
ALTER TABLE environments DROP COLUMN admitted_at;
ALTER TABLE environments DROP COLUMN queued_at;
ALTER TABLE environments DROP COLUMN terms;
ALTER TABLE environments DROP COLUMN keep_until;
ALTER TABLE environments DROP COLUMN used_at;

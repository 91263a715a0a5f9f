-- The orders of the dashboard's list: what changed last, and by status, the newest of each first.
CREATE INDEX environments_changed ON environments (updated_at, id);
DROP INDEX environments_status;
CREATE INDEX environments_status ON environments (status, id DESC);

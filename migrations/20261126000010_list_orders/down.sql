DROP INDEX environments_status;
CREATE INDEX environments_status ON environments (status, id);
DROP INDEX environments_changed;

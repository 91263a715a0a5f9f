-- What the audit log is filtered by, newest first: ids begin with their time.
CREATE INDEX events_of_kind ON events (kind, id);
CREATE INDEX events_of_actor ON events (actor, id);
CREATE INDEX events_refused ON events (id) WHERE refusal IS NOT NULL;

DROP INDEX events_refused;
DROP INDEX events_of_actor;
DROP INDEX events_of_kind;

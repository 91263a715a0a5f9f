DROP INDEX deliveries_pull_request;
DROP TABLE idempotency;

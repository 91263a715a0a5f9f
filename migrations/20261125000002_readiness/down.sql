ALTER TABLE deployments DROP COLUMN readiness;

ALTER TABLE deployments DROP COLUMN github_state;
ALTER TABLE deployments DROP COLUMN github_id;
DROP TABLE github_budgets;

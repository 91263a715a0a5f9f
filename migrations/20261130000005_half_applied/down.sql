ALTER TABLE standings DROP COLUMN half_applied;

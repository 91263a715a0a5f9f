ALTER TABLE environments DROP COLUMN trigger_label;

-- The label that the recipe asks for, lower-cased: adding it lifts what was held back on purpose.
ALTER TABLE environments ADD COLUMN trigger_label TEXT;

ALTER TABLE deployments DROP COLUMN github_description;
ALTER TABLE standings DROP COLUMN told;
ALTER TABLE standings DROP COLUMN hitch_since;
ALTER TABLE standings DROP COLUMN hitch;

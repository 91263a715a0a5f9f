ALTER TABLE installation DROP COLUMN sampling_problem;
ALTER TABLE installation DROP COLUMN sampled_at;
DROP TABLE usage_buckets;
DROP TABLE usage_samples;

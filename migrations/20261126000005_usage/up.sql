-- What environments use, as the metrics API and their pods said it last.
CREATE TABLE usage_samples (
    environment_id TEXT NOT NULL PRIMARY KEY REFERENCES environments (id) ON DELETE CASCADE,
    sampled_at BIGINT,
    cpu_millicores BIGINT,
    memory_bytes BIGINT,
    restarts BIGINT NOT NULL DEFAULT 0,
    out_of_memory BIGINT NOT NULL DEFAULT 0
);
-- The same over the last day, as sums and peaks of five minutes each.
CREATE TABLE usage_buckets (
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    bucket BIGINT NOT NULL,
    samples BIGINT NOT NULL,
    cpu_millicores BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    cpu_peak BIGINT NOT NULL,
    memory_peak BIGINT NOT NULL,
    PRIMARY KEY (environment_id, bucket)
);
CREATE INDEX usage_buckets_age ON usage_buckets (bucket);
ALTER TABLE installation ADD COLUMN sampled_at BIGINT;
ALTER TABLE installation ADD COLUMN sampling_problem TEXT;

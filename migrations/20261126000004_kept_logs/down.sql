DROP TABLE kept_logs;

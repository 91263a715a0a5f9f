-- GitHub's numbers of the labels, in the order of their names: a label that is renamed keeps its number.
ALTER TABLE pull_requests ADD COLUMN label_ids TEXT NOT NULL DEFAULT '[]';

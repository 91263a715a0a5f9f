DROP INDEX tokens_of_scope;

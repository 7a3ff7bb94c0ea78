"""One file a verb of the user: load, compute, record, return."""

"""Pure computing: frames in, values out; no network, global random generator or file of a user."""

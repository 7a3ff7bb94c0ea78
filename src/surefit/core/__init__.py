"""Pure computing: frames in, values out; no clock, file, network or global random generator."""

"""The decision, as data and without I/O: what shall exist, what differs, and why."""

"""The memory: one SQLite journal per state root, hash-chained and append-only, with its locks."""

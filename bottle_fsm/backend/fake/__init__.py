"""A simulated engine for tests, documentation and simulation: its world is a file that survives a killed launcher."""

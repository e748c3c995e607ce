"""The local backend: bottles as sandboxes of this machine, without an engine and without root."""

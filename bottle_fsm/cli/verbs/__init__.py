"""One short module per verb; each has a click command named `command`, loaded by `cli.door` when it is called."""

"""The door: the command line. One short module per verb, one error boundary; nothing else prints or exits."""

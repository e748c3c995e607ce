"""bottle-fsm: isolated, egress-controlled containers for AI coding agents, launched by a durable state machine."""

__version__ = "0.1.0"

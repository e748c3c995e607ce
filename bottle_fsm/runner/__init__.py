"""The only loop: takes intents to disk, lets the backend act, verifies, and moves the state."""

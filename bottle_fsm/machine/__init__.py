"""The table: states and transitions, loaded from `states/*.yaml`, and the library that walks it."""

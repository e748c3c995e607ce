"""The record of what a launch's sidecars decided: collected while they are there, kept when they are gone."""

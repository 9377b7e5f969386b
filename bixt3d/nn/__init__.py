"""Modules with parameters; no task, no data set."""

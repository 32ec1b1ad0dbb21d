"""Processes that are kept alive: supervision, forks, and programs that run under it."""

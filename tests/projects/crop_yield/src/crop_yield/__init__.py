"""Yield of fields from optical images."""

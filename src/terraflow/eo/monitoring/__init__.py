"""Drift of new images: the step monitor."""

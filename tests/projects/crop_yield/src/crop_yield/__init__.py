"""Crop yield."""

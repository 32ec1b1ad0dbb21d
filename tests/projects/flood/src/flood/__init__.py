"""Flood mapping."""

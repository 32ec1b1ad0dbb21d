"""Flooded land from radar images."""

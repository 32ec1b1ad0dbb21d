"""The platform: services, settings, storage, tracking and serving, independent of any project."""

"""The store: objects by their URIs, local or S3."""

from terraflow.storage.objects import Storage, join

__all__ = ["Storage", "join"]

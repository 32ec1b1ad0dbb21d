"""Errors a user can act on: what failed with its value, what was expected, what to do next."""

__all__ = ["ConfigError", "DataError", "ServiceError", "StorageError", "TerraFlowError"]


class TerraFlowError(Exception):
    """An error whose message is meant for the user and is shown without a traceback."""


class ConfigError(TerraFlowError):
    """A configuration file, an environment variable or a command line option is wrong."""


class ServiceError(TerraFlowError):
    """A service can't start, died, or does not answer."""


class StorageError(TerraFlowError):
    """An object or a file can't be read or written."""


class DataError(TerraFlowError):
    """The data do not allow what was asked for."""

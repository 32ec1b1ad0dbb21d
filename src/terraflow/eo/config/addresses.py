"""Addresses in the configuration, which runs, models and maps record: they hold no secrets."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from terraflow.errors import ConfigError

__all__ = [
    "CREDENTIALS",
    "Address",
    "checked_uri",
    "has_credentials",
    "local_path",
    "without_credentials",
    "without_query",
]

#: What is wrong with an address that holds them.
CREDENTIALS = (
    "holds credentials, which would be written into runs and maps; leave them out and use [data] "
    "sign, ~/.netrc or AWS variables"
)
USER = re.compile(r"https?://[^/?#]*@|://[^/?#@]*:[^/?#]*@")
SECRET = re.compile(
    r"sig|auth|authorization|(.*[-_.])?(api|access|account)?key([-_]?id)?|awsaccesskeyid|"
    r"x-(amz|goog)-.*|.*(token|signature|secret|passw|credential).*",
    re.IGNORECASE,
)


def has_credentials(address: str) -> bool:
    """Tell whether an address holds user and password, or a query that looks like a secret."""
    queries = re.findall(r"[?&;#]([^=?&;#]+)=", unquote(address)) if "://" in address else []
    return bool(USER.search(address)) or any(SECRET.fullmatch(name) for name in queries)


def without_credentials(address: str) -> str:
    """Refuse an address that holds credentials, as a validator of pydantic."""
    if has_credentials(address):  # of this type, so that the message leaves the value out
        raise PydanticCustomError("secret", CREDENTIALS)
    return address


Address = Annotated[str, AfterValidator(without_credentials)]


def without_query(text: str) -> str:
    """Cut user, password and what follows a question mark off addresses: these are secrets."""
    return re.sub(r"\?[^\s'\"]*", "", re.sub(r"://[^\s'\"/?#]*@", "://", text))


def local_path(address: str) -> str:
    """Give the path of a local file, of file:// without its percent-encoding; else "".

    References
    ----------
    https://www.rfc-editor.org/rfc/rfc8089
    """
    scheme, found, _ = address.partition("://")
    if not found:
        return address
    if scheme.lower() != "file":
        return ""
    parts = urlsplit(address.replace("?", "%3F").replace("#", "%23"))
    host = "" if parts.netloc == "localhost" else parts.netloc
    return unquote(host + parts.path)


def checked_uri(uri: str) -> str:
    """Give back an address that may be written into runs and maps.

    Raises
    ------
    ConfigError
        It holds credentials.
    """
    if has_credentials(uri):
        raise ConfigError(f"{without_query(uri.partition('#')[0])} {CREDENTIALS}.")
    return uri

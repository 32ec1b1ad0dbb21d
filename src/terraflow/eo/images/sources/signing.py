"""The signing of addresses for catalogues that ask for it."""

from __future__ import annotations

import requests

from terraflow.eo.config.addresses import without_query
from terraflow.eo.config.imagery import Data
from terraflow.errors import DataError

__all__ = ["sign"]


def sign(href: str, data: Data) -> str:
    """Sign the address of an asset, where [data] sign asks for it.

    Tokens are kept until shortly before they expire, so that this is cheap before every read.

    Raises
    ------
    DataError
        The signing service does not answer.
    """
    if data.sign == "none":
        return href
    import planetary_computer  # noqa: PLC0415 - slow, and few need it

    try:
        signed: str = planetary_computer.sign(href)
    except (requests.RequestException, ValueError) as error:
        raise DataError(
            f"Planetary Computer does not sign {without_query(href)}: {without_query(str(error))}; "
            "check the network and run it again."
        ) from error
    return signed

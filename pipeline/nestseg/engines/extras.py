"""Which extras are installed: configs leave out the handlers that need others."""

from __future__ import annotations

from importlib.util import find_spec


def installed(package: str) -> bool:
    """Whether a package could be imported; nothing is.

    Args:
        package: a top-level name.
    """
    return "." not in package and find_spec(package) is not None

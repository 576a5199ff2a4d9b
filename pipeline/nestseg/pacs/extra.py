"""The libraries of the ``pacs`` extra, quiet: their messages may hold what stands in tags."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType

from nestseg_prep.errors import InputError


def load(name: str) -> ModuleType:
    """Import ``pynetdicom`` or ``dicomweb_client``.

    Raises:
        InputError: it is not installed.
    """
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise InputError(f"a PACS needs {name}; run `pip install 'nestseg[pacs]'`") from None
    logger = logging.getLogger(name)
    logger.handlers = [logging.NullHandler()]
    logger.propagate = False
    return module

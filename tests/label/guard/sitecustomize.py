"""On the path of every process of a test: no connection and no look-up beyond loopback.

What is tried is written to the file that ``NESTSEG_GUARD`` names, and fails.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

LOOPBACK = {"localhost", "127.0.0.1", "::1", "", None, "0.0.0.0"}  # noqa: S104


def refuse(what: str, host: object) -> None:
    if isinstance(host, bytes):
        host = host.decode()
    if host in LOOPBACK or str(host).startswith("127."):
        return
    with open(os.environ["NESTSEG_GUARD"], "a") as file:  # noqa: PTH123
        file.write(f"{what} {host}: {sys.argv[:3]}\n")
    raise OSError(f"{what} {host}: blocked in tests")


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        refuse(event, arguments[0])
    elif event in ("socket.connect", "socket.sendto"):
        one, address = arguments
        if one.family in (socket.AF_INET, socket.AF_INET6):
            refuse(event, address[0])


if os.environ.get("NESTSEG_GUARD"):
    sys.addaudithook(audit)

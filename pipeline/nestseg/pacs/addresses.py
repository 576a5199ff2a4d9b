"""Addresses of DICOM nodes: ``dicom://`` or ``dicoms://AET@host:port``, and DICOMweb roots."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from nestseg.pacs.tls import Tls
from nestseg_prep.errors import InputError

LONGEST_AE_TITLE: Final = 16
_AE_TITLE: Final = re.compile(r"[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]{0,15}")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_FORMS: Final = (
    "dicom://AET@host:port, dicoms://AET@host:port (TLS), dicomweb://host:port/path or "
    "https://host/path"
)


@dataclass(frozen=True)
class Node:
    """A DICOM node that takes C-STORE.

    Attributes:
        aet: its application entity title.
        host: name or address.
        port: TCP.
        tls: ours, if it takes TLS; ``None`` if it does not.
    """

    aet: str
    host: str
    port: int
    tls: Tls | None = None

    def __str__(self) -> str:
        scheme = "dicom" if self.tls is None else "dicoms"
        return f"{scheme}://{self.aet}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Web:
    """A DICOMweb server.

    Attributes:
        url: root of its services, ``http://…`` or ``https://…``.
        tls: ours, for ``https://``.
    """

    url: str
    tls: Tls = field(default_factory=Tls)


Address: TypeAlias = Node | Web


def parse(text: str, tls: Tls | None = None) -> Address:
    """Read an address as a person writes it.

    ``dicomweb://`` is DICOMweb without TLS, ``https://`` with; ``dicoms://`` is ``dicom://`` with.

    Args:
        text: what was written.
        tls: our certificate, and whom to trust, where the address is one with TLS.

    Raises:
        InputError: it is no address, or it holds a password: command lines are no secret.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InputError(f"{text}: no such address; write {_FORMS}") from None
    if parts.password is not None:
        raise InputError(f"{parts.hostname}: a password in an address; put it into ~/.netrc")
    tls = tls or Tls()
    if parts.scheme in ("dicom", "dicoms") and parts.hostname and port and parts.username:
        own = tls if parts.scheme == "dicoms" else None
        return Node(ae_title(parts.username), parts.hostname, port, own)
    if parts.scheme in ("dicomweb", "http", "https") and parts.hostname and not parts.username:
        scheme = "http" if parts.scheme == "dicomweb" else parts.scheme
        root = parts._replace(scheme=scheme, query="", fragment="").geturl()
        return Web(root.rstrip("/"), tls)
    raise InputError(f"{text}: no such address; write {_FORMS}")


def ae_title(text: str) -> str:
    """An application entity title.

    Raises:
        InputError: it is empty, longer than 16 characters or holds others than PS3.5 allows.
    """
    if not _AE_TITLE.fullmatch(text):
        raise InputError(f"{text!r}: no AE title; give 1 to {LONGEST_AE_TITLE} ASCII characters")
    return text


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nothing travels over a network."""
    return host in _LOOPBACK or host.startswith("127.")


def is_plain(address: Address) -> bool:
    """Whether what is sent to the address travels over a network unencrypted."""
    if isinstance(address, Node):
        return address.tls is None and not is_loopback(address.host)
    parts = urlsplit(address.url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")

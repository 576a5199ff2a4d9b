"""TLS for DICOM: who we are, and by whom the other side must be known."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from nestseg_prep.errors import InputError


@dataclass(frozen=True)
class Tls:
    """PEM files; TLS 1.2 and later.

    Attributes:
        certificate: ours, with those between it and its authority.
        key: of the certificate, without a passphrase.
        ca: authorities, one of which must have signed the certificate of the other side.

    Raises:
        InputError: a certificate without its key, or the reverse.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("TLS needs --certificate and --key, both")

    def for_listening(self) -> ssl.SSLContext | None:
        """For a listener: with ``ca``, senders need a certificate too. ``None`` without TLS.

        Raises:
            InputError: ``ca`` without a certificate of our own, or a file cannot be used.
        """
        if self.certificate is None:
            if self.ca is not None:
                raise InputError("--ca needs TLS; give --certificate and --key too")
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(context)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def for_sending(self) -> ssl.SSLContext:
        """For a sender: the listener must be known by ``ca``, or by this system without one.

        Raises:
            InputError: a file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._load(context)
        if self.ca is None:
            context.load_default_certs()
        return context

    def words(self) -> list[str]:
        """The same as options for a command."""
        given = {"--certificate": self.certificate, "--key": self.key, "--ca": self.ca}
        return [word for name, path in given.items() if path for word in (name, str(path))]

    def _load(self, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{self.certificate}: not usable with {self.key} ({_why(error)}); give PEM "
                    "files that belong together, the key without a passphrase"
                ) from error
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except OSError as error:
                raise InputError(
                    f"{self.ca}: no certificates of authorities ({_why(error)}); give a PEM file"
                ) from error


def _no_passphrase() -> str:
    """Stand for the prompt that OpenSSL would wait at."""
    raise ValueError("it has a passphrase")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM file").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)

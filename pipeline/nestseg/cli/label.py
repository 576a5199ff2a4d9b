"""``nestseg label``: bundles in MONAI Label's server, for this machine unless told otherwise."""

from __future__ import annotations

from pathlib import Path

from nestseg.cli import bundles as named
from nestseg.cli import tables
from nestseg.label import start
from nestseg.pacs.addresses import Web, parse
from nestseg_prep.errors import InputError


def run(
    bundles: str,
    studies: str,
    work: Path,
    *,
    host: str,
    port: int,
    trust: bool,
    tls: tuple[Path | None, Path | None],
) -> None:
    """Become the server.

    Args:
        bundles: names or folders, with commas between them.
        studies: a folder, or the address of a DICOMweb server.
        work: the working folder.
        host: address to listen on.
        port: TCP.
        trust: whether to trust the bundles' code from now on.
        tls: certificate and key; both or neither.

    Raises:
        InputError: nothing could be started; the line says why.
    """
    start.check_installed()
    wanted = [name.strip() for name in bundles.split(",") if name.strip()]
    folders = [named.find(name, trust=trust) for name in wanted]
    if not folders:
        raise InputError("no bundles; give --bundles with names or folders")
    if "://" in studies:
        address = parse(studies)
        if not isinstance(address, Web):
            raise InputError(f"{studies}: labels need DICOMweb; give dicomweb://host:port/path")
        studies = address.url
    if (tls[0] is None) != (tls[1] is None):
        raise InputError("TLS needs --certificate and --key, both")
    certificate = (tls[0], tls[1]) if tls[0] and tls[1] else None
    if host not in start.LOOPBACK and certificate is None:
        tables.stderr.print(
            f"[yellow]{host}: images and labels travel unencrypted, and anybody may ask for them; "
            "give --certificate, or put a proxy with TLS and a log-in before it[/]"
        )
    scheme = "https" if certificate else "http"
    tables.stderr.print(f"{scheme}://{host}:{port} for 3D Slicer; /ohif/ there for OHIF")
    options = start.Options(
        [str(folder) for folder in folders],
        studies if "://" in studies else str(Path(studies).resolve()),
        work.resolve(),
        host,
        port,
        certificate,
    )
    start.run(options)

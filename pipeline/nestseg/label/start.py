"""The command line and the environment of MONAI Label's server."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from nestseg_prep.errors import InputError

HOSTS: Final = "NESTSEG_LABEL_HOSTS"
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]", "::1")
SHIMS: Final = Path(__file__).parent / "shims"
_MAIN: Final = '''\
"""The app that MONAI Label starts; `nestseg label` wrote this file."""

from nestseg.label.app import NestsegApp

__all__ = ["NestsegApp"]
'''


class Options(NamedTuple):
    """What `nestseg label` was asked for.

    Attributes:
        bundles: names or folders.
        studies: a folder, or the address of a DICOMweb server.
        work: the working folder.
        host: address to listen on.
        port: TCP.
        certificate: TLS certificate and key, PEM files; ``None`` for none.
    """

    bundles: Sequence[str]
    studies: str
    work: Path
    host: str
    port: int
    certificate: tuple[Path, Path] | None = None


def check_installed() -> None:
    """Refuse to start without MONAI Label.

    Raises:
        InputError: it is not installed; the line says how.
    """
    if importlib.util.find_spec("monailabel") is None:
        raise InputError("MONAI Label is not installed here; `make label` makes its environment")


def command(options: Options) -> list[str]:
    """The server as a command; its app is written into the working folder."""
    app = options.work / "app"
    app.mkdir(parents=True, exist_ok=True)
    (app / "main.py").write_text(_MAIN)
    conf = {"bundles": ",".join(options.bundles), "work": str(options.work)}
    log = options.work / "log.json"
    log.write_text(json.dumps(_log_config(), indent=2))
    return [
        *(sys.executable, "-m", "monailabel.main", "start_server"),
        *("--app", str(app), "--studies", options.studies),
        *("--host", options.host, "--port", str(options.port)),
        *("--uvicorn_app", "nestseg.label.server:app", "--log_config", str(log)),
        *("--verbose", "WARNING"),
        *(part for key, value in conf.items() for part in ("--conf", key, value)),
        *_tls(options),
    ]


def environment(options: Options, outer: Mapping[str, str]) -> dict[str, str]:
    """The variables of the server and of the processes that it starts.

    They all find the shims first. Nothing of MONAI Label's own looks up or downloads anything.
    """
    hosts = {*LOOPBACK, options.host} - {"0.0.0.0", "::"}  # noqa: S104
    listens_everywhere = options.host in ("0.0.0.0", "::")  # noqa: S104
    return {
        **outer,
        "PYTHONPATH": os.pathsep.join([str(SHIMS), *_split(outer.get("PYTHONPATH"))]),
        "NO_PROXY": ",".join(dict.fromkeys([*_listed(outer.get("NO_PROXY")), *LOOPBACK[:2]])),
        HOSTS: "*" if listens_everywhere else ",".join(sorted(hosts)),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_ZOO_SOURCE": "none",
    }


def run(options: Options) -> None:
    """Become the server.

    Raises:
        InputError: MONAI Label is missing, or the working folder lies among the studies.
        OSError: the working folder cannot be written.
    """
    check_installed()
    _check_apart(options)
    arguments = command(options)
    os.execve(arguments[0], arguments, environment(options, os.environ))  # noqa: S606


def _check_apart(options: Options) -> None:
    if options.studies.startswith(("http://", "https://")):
        return
    studies = Path(options.studies)
    if not studies.is_dir():
        raise InputError(f"{studies}: no such folder; give a folder or a DICOMweb address")
    if options.work.resolve().is_relative_to(studies.resolve()):
        raise InputError(f"{options.work}: lies among the studies; choose another --work")


def _tls(options: Options) -> list[str]:
    if options.certificate is None:
        return []
    certificate, key = options.certificate
    return ["--ssl_certfile", str(certificate), "--ssl_keyfile", str(key)]


def _split(text: str | None) -> list[str]:
    return [part for part in (text or "").split(os.pathsep) if part]


def _listed(text: str | None) -> list[str]:
    return [part for part in (text or "").split(",") if part]


def _log_config() -> dict[str, Any]:
    """Warnings alone: what MONAI Label says of a request holds paths, ids and UIDs."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": "WARNING", "handlers": ["console"]},
        "loggers": {
            "uvicorn": {"level": "INFO", "propagate": False, "handlers": ["console"]},
            "timeloop": {"level": "WARNING"},
            "uvicorn.access": {"level": "WARNING", "propagate": False, "handlers": ["console"]},
        },
    }

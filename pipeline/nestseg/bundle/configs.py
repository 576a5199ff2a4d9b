"""The config files of a bundle as data: read by MONAI's own reader, never parsed or evaluated."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from nestseg.bundle.findings import Finding

SUFFIXES = (".json", ".yaml", ".yml")
LARGEST = 2**20
_POSITION = re.compile(r"line (\d+)")


@dataclass
class Config:
    """One config file.

    Attributes:
        name: within the bundle, without ``configs/``.
        content: the whole of it; empty where it could not be read.
        findings: what was wrong while reading.
    """

    name: str
    content: Any
    findings: list[Finding] = field(default_factory=list)


def shown(path: Path, bundle: Path) -> str:
    """What a file is called in findings."""
    name = path.relative_to(bundle).as_posix()
    return name.removeprefix("configs/")


def read(path: Path, bundle: Path) -> Config:
    """Read one config; what is wrong with it becomes findings."""
    name = shown(path, bundle)
    if path.stat().st_size > LARGEST:
        problem = f"a config of {path.stat().st_size / 1e6:.1f} MB"
        return Config(name, {}, [Finding(name, "", problem, "keep data out of configs")])
    findings = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            content = ConfigParser.load_config_file(path)
    except (OSError, RecursionError, MemoryError) as error:
        problem = f"cannot be read ({type(error).__name__})"
        return Config(name, {}, [Finding(name, "", problem, "restore the file")])
    except Exception as error:  # noqa: BLE001  a syntax error of JSON, of YAML, or of an encoding
        match = _POSITION.search(str(error))
        where = f"line {match[1]}" if match else ""
        why = str(error).split("\n", 1)[0]
        problem = f"is no {path.suffix[1:].upper()} ({why})"
        return Config(name, {}, [Finding(name, where, problem, "mend the syntax")])
    for item in caught:
        problem = str(item.message).split("\n", 1)[0]
        findings.append(Finding(name, "", problem, "keep one of the two: MONAI takes the last"))
    return Config(name, content, findings)


def read_all(bundle: Path) -> list[Config]:
    """Every JSON and YAML file of a bundle: macros may reach any of them."""
    paths = (path for path in sorted(bundle.rglob("*")) if path.suffix.lower() in SUFFIXES)
    return [read(path, bundle) for path in paths if path.is_file() and not path.is_symlink()]


def leaves(item: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every item of a config with its id, containers before what they hold."""
    yield place, item
    children: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(item, dict):
        children = iter(item.items())
    elif isinstance(item, list):
        children = iter(enumerate(item))
    for key, child in children:
        yield from leaves(child, f"{place}#{key}" if place else str(key))


def last_key(place: str) -> str:
    """The key that an id ends with, whether it is written nested or as ``a#b`` or ``+a``."""
    return re.split(r"#|::", place)[-1].removeprefix("+")

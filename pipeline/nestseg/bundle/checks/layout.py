"""The files of a bundle, its name, and its README."""

from __future__ import annotations

import re
from pathlib import Path

from monai.bundle import ConfigParser

from nestseg.bundle import configs
from nestseg.bundle.findings import Finding, Severity, warning

LARGEST = 25 * 2**20
"""Bytes above which the Model Zoo wants an entry in ``large_files.yml``."""

_REQUIRED = ("LICENSE", "configs/metadata.json", "docs/README.md")
_WORKFLOWS = (
    ("train", Severity.WARNING, "write the workflow; without it nobody can retrain the bundle"),
    ("evaluate", Severity.WARNING, "write the workflow; without it nobody can score the bundle"),
    ("inference", Severity.ERROR, "write the workflow"),
)
_WEIGHTS = (".pt", ".pth", ".safetensors")
_SECTIONS = {
    "Use": r"use|usage|commands|additional usage",
    "Training": r"train|network",
    "Performance": r"performance|figures|results|scores",
    "Data": r"data",
    "System configuration": r"system|requirements|hardware",
    "Limitations": r"limitation",
    "References": r"reference|citation",
}
_RESEARCH = re.compile(
    r"not a medical device|not for (clinical|diagnos)|research (use|only)", re.IGNORECASE
)
_PERSONAL = re.compile(r"(/home/|/Users/|/root/|[A-Za-z]:\\)[^\s\"']*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*")


def check(bundle: Path) -> list[Finding]:
    """Look for what must be there."""
    found = [
        Finding(name, "", "is missing", "a bundle has one; see docs/bundles.md")
        for name in _REQUIRED
        if not (bundle / name).is_file()
    ]
    for name, severity, remedy in _WORKFLOWS:
        if config_file(bundle, name) is None:
            found.append(Finding(f"{name}.json", "", "is missing", remedy, severity))
    large = _large_files(bundle)
    if not has_weights(bundle) and not large:
        found.append(Finding("models/model.pt", "", "is missing", "train the bundle"))
    if not (bundle / "configs" / "logging.conf").is_file():
        found.append(
            warning("logging.conf", "", "is missing", "multi-GPU runs of hosts ask for it")
        )
    if not (bundle / "docs" / "data_license.txt").is_file():
        found.append(
            warning("docs/data_license.txt", "", "is missing", "say whose data the weights saw")
        )
    return found + _name(bundle) + _sizes(bundle, large) + _readme(bundle) + _paths(bundle)


def has_weights(bundle: Path) -> bool:
    """Whether there is any file of weights in ``models/``."""
    return any(path.suffix in _WEIGHTS for path in (bundle / "models").glob("*"))


def config_file(bundle: Path, name: str) -> Path | None:
    """The config of a workflow: JSON before YAML, as its hosts look for it."""
    candidates = [bundle / "configs" / f"{name}{suffix}" for suffix in configs.SUFFIXES]
    return next((path for path in candidates if path.is_file()), None)


def _name(bundle: Path) -> list[Finding]:
    problem = ""
    if re.search(r"_v\d", bundle.name):
        problem = "a name in which the Model Zoo reads a version"
    elif not _NAME.fullmatch(bundle.name):
        problem = "a name with more than letters, digits, `_` and `-`"
    return [Finding(bundle.name, "", problem, "rename the folder")] if problem else []


def _large_files(bundle: Path) -> set[str]:
    """Paths that ``large_files`` lists with a hash."""
    for suffix in configs.SUFFIXES:
        path = bundle / f"large_files{suffix}"
        if path.is_file():
            content = configs.read(path, bundle).content
            entries = content.get("large_files", []) if isinstance(content, dict) else []
            return {
                str(entry.get("path"))
                for entry in entries
                if isinstance(entry, dict) and entry.get("hash_val")
            }
    return set()


def _sizes(bundle: Path, large: set[str]) -> list[Finding]:
    found = []
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        if path.is_file() and path.stat().st_size > LARGEST and name not in large:
            size = f"is {path.stat().st_size / 2**20:.0f} MB"
            found.append(warning(name, "", size, "list it in large_files.yml with its hash"))
    return found


def _readme(bundle: Path) -> list[Finding]:
    path = bundle / "docs" / "README.md"
    if not path.is_file():
        return []
    text = path.read_text(errors="replace")
    headings = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    found = [
        warning("docs/README.md", "", f"has no section `{name}`", "write it")
        for name, pattern in _SECTIONS.items()
        if not any(re.match(pattern, heading) for heading in headings)
    ]
    if not _RESEARCH.search(text):
        problem = "does not say that this is no medical device"
        found.append(Finding("docs/README.md", "", problem, "say so"))
    return found


def _paths(bundle: Path) -> list[Finding]:
    """Paths of somebody's own machine in the configs."""
    found = []
    for config in configs.read_all(bundle):
        for place, item in configs.leaves(config.content):
            if isinstance(item, str) and (match := _PERSONAL.search(item)):
                problem = f"a path of one machine ({match[0][:40]})"
                found.append(Finding(config.name, place, problem, "start at @bundle_root"))
    return found


def merged(bundle: Path, *names: str) -> ConfigParser | None:
    """Configs laid over each other as MONAI does, macros resolved; ``None`` if one is missing.

    Raises:
        ValueError, KeyError: a macro or a relative id leads nowhere.
    """
    paths = [config_file(bundle, name) for name in names]
    if None in paths:
        return None
    parser = ConfigParser()
    parser.read_config([str(path) for path in paths])
    parser.resolve_macro_and_relative_ids()  # type: ignore[no-untyped-call]
    return parser

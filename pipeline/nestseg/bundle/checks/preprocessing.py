"""Validation and inference must prepare an image alike, or the figures are not the bundle's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from nestseg.bundle.checks import layout
from nestseg.bundle.findings import Finding, warning

_SUM = re.compile(r"\$\s*@[\w#:]+(\s*\+\s*@[\w#:]+)*\s*")
_REFERENCE = re.compile(r"@([\w#:]+)")
_ALLOWED = {"allow_missing_keys", "_desc_"}


def check(bundle: Path) -> list[Finding]:
    """Compare the image's transforms of ``validate#preprocessing`` and of inference."""
    try:
        train, inference = layout.merged(bundle, "train"), layout.merged(bundle, "inference")
    except (ValueError, KeyError):
        return []  # the workflow's check says so
    if train is None or inference is None:
        return []
    validated = _steps(train, "validate#preprocessing")
    inferred = _steps(inference, "preprocessing")
    if validated is None or inferred is None:
        problem = "is computed, so that it cannot be compared with validate#preprocessing"
        return [warning("inference.json", "preprocessing", problem, "write lists joined by +")]
    for number, pair in enumerate(zip(validated, inferred, strict=False)):
        if pair[0] != pair[1]:
            names = " and ".join(str(step.get("_target_")) for step in pair)
            problem = f"step {number} differs from validate#preprocessing ({names})"
            return [Finding("inference.json", "preprocessing", problem, "use the same steps")]
    if len(validated) != len(inferred):
        problem = f"has {len(inferred)} steps on the image, validate#preprocessing {len(validated)}"
        return [Finding("inference.json", "preprocessing", problem, "use the same steps")]
    return []


def _steps(parser: ConfigParser, place: str) -> list[dict[str, Any]] | None:
    """The transforms of the image, in a form that two configs can be compared by."""
    steps = expanded(parser, parser.get(f"{place}#transforms", parser.get(place)))
    if steps is None:
        return None
    kept = (_plain(parser, step) for step in steps)
    return [step for step in kept if step is not None]


def expanded(parser: ConfigParser, item: Any) -> list[dict[str, Any]] | None:
    """A list of transforms, also where it is written ``$@a + @b``; ``None`` if it is computed."""
    if isinstance(item, str) and item.startswith("@") and item[1:] in parser:
        return expanded(parser, parser[item[1:]])
    if isinstance(item, str) and _SUM.fullmatch(item):
        steps = []
        for reference in _REFERENCE.findall(item):
            part = expanded(parser, parser.get(reference))
            if part is None:
                return None
            steps += part
        return steps
    if isinstance(item, dict) and "transforms" in item:
        return expanded(parser, item["transforms"])
    if isinstance(item, list) and all(isinstance(step, dict) for step in item):
        return item
    return None


def _plain(parser: ConfigParser, step: dict[str, Any]) -> dict[str, Any] | None:
    """One transform without what concerns the label; ``None`` if it leaves the image alone."""
    values = {key: _resolved(parser, value) for key, value in step.items() if key not in _ALLOWED}
    keys = values.pop("keys", "image")
    keys = [keys] if isinstance(keys, str) else list(keys)
    if "image" not in keys:
        return None
    at = keys.index("image")
    per_key = {
        key: value[at] if isinstance(value, list) and len(value) == len(keys) > 1 else value
        for key, value in values.items()
    }
    return {key: _first(value) for key, value in per_key.items()}


def _first(value: Any) -> Any:
    """``$['bilinear', 'nearest'][:len(@keys)]`` gives the image the first; so does a plain one."""
    if isinstance(value, str) and (
        match := re.fullmatch(r"\$\['(\w+)'.*\]\[:len\(@keys\)\]", value)
    ):
        return match[1]
    return value


def _resolved(parser: ConfigParser, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("@") and value[1:] in parser:
        return _resolved(parser, parser[value[1:]])
    if isinstance(value, list):
        return [_resolved(parser, part) for part in value]
    if isinstance(value, dict):
        return {key: _resolved(parser, part) for key, part in value.items()}
    return value

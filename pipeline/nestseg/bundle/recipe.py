"""Recipes: which shared fragments make up each config of a bundle, and what it changes in them.

A recipe is ``bundles/NAME/bundle.yaml``. For each config file it lists fragments of
``bundles/_parts`` and an ``override``, all in MONAI's own config language and merged by MONAI's own
rules: a later key replaces an earlier one, ``a#b`` reaches into it, ``+a`` extends it. Lists of
``imports`` add up. The rendered configs are standalone and committed, because MONAI Label and the
Model Zoo's tools read one file per workflow.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from nestseg.bundle import locate

RECIPE = "bundle.yaml"
PARTS = "_parts"


def compose(fragments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge config fragments, the later over the earlier.

    Raises:
        ValueError: a ``+key`` extends a key that no earlier fragment has (MONAI only warns), or a
            string looks like a number (YAML reads ``1e-3`` as text; write ``0.001``).
    """
    parser = ConfigParser({})
    imports: list[str] = []
    for fragment in fragments:
        for key, value in fragment.items():
            if key == "imports":
                imports += [line for line in value if line not in imports]
                continue
            if key.startswith("+") and key[1:] not in parser:
                raise ValueError(f"{key!r} extends nothing")
            merge_kv(parser, key, deepcopy(value))
    merged = {"imports": imports, **parser.get()} if imports else dict(parser.get())
    for place, text in _strings(merged):
        if _is_number(text):
            raise ValueError(f"{place}: {text!r} is text that looks like a number")
    return merged


def render(bundle: Path) -> dict[str, str]:
    """Render a recipe.

    Args:
        bundle: folder of the bundle, beside the folder ``_parts``, or anywhere: then the fragments
            are those that come with nestseg.

    Returns:
        File name → JSON text, for each file that belongs into ``configs/``.
    """
    beside = bundle.parent / PARTS
    parts = beside if beside.is_dir() else locate.home() / PARTS
    recipe = ConfigParser.load_config_file(bundle / RECIPE)
    configs = {}
    for name, ingredients in recipe.items():
        overlay = ingredients.get("overlay", False)
        fragments = [
            ConfigParser.load_config_file(parts / f"{part}.yaml") for part in ingredients["parts"]
        ]
        fragments.append(ingredients.get("override", {}))
        # An overlay's `a#b` keys reach into the config that it is laid over, when that is run.
        merged = dict(ChainMap(*reversed(fragments))) if overlay else compose(fragments)
        configs[f"{name}.json"] = json.dumps(merged, indent=4) + "\n"
    configs["logging.conf"] = (parts / "logging.conf").read_text()
    return configs


def write(bundle: Path) -> None:
    """Render a recipe into the bundle's ``configs/`` folder."""
    folder = bundle / "configs"
    folder.mkdir(exist_ok=True)
    for name, text in render(bundle).items():
        (folder / name).write_text(text)


def recipes(root: Path) -> list[Path]:
    """All bundle folders below ``root`` that have a recipe."""
    return sorted(path.parent for path in root.glob(f"*/{RECIPE}"))


def _strings(item: Any, place: str = "") -> list[tuple[str, str]]:
    if isinstance(item, str):
        return [(place, item)]
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(item, dict):
        children = item.items()
    elif isinstance(item, list):
        children = enumerate(item)
    inside = f"{place}#" if place else ""
    return [found for key, child in children for found in _strings(child, f"{inside}{key}")]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

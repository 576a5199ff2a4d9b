"""A bundle's rule for inputs, read without running any of the bundle's code. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection


def read_selection(bundle: Path) -> Selection:
    """The rules under ``selection`` in a bundle's inference config.

    Raises:
        InputError: the inference config cannot be read, or its rules are missing or wrong.
    """
    try:
        rules = dict(json.loads((bundle / "configs" / "inference.json").read_text())["selection"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{bundle.name}: inference.json holds no `selection` of inputs; add one, or run "
            "the bundle through `python -m monai.bundle run`"
        ) from error
    rules.pop("_target_", None)
    return Selection.from_rules(rules, f"{bundle.name}: inference.json")

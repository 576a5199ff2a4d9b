"""A bundle's rule for inputs, read as data: neither torch nor the bundle's code is needed."""

from __future__ import annotations

import json
from pathlib import Path

from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection


def read_selection(bundle: Path) -> Selection:
    """The bundle's rule for inputs, read without running any of the bundle's code.

    Raises:
        InputError: the inference config cannot be read, or its rules are missing or wrong.
    """
    try:
        rule = dict(json.loads((bundle / "configs" / "inference.json").read_text())["selection"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{bundle.name}: inference.json holds no `selection` of inputs; add one, or run "
            "the bundle through `python -m monai.bundle run`"
        ) from error
    rule.pop("_target_", None)
    return Selection.from_rules(rule, f"{bundle.name}: inference.json")

"""A bundle's training pipeline, without the network being trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.transforms import Compose

from nestseg_prep.errors import InputError

_IDS = ("train#dataset#data", "train#preprocessing")


def read_pipeline(bundle: Path, dataset: Path) -> tuple[list[dict[str, Any]], Compose]:
    """The training cases of a data set and the transforms of a bundle. This runs the bundle's code.

    Args:
        bundle: folder of the bundle; its train config has the ids that MONAI's bundle
            specification names.
        dataset: takes the place of the config's ``dataset_dir``.

    Returns:
        The cases in the order of training, and the whole pipeline.

    Raises:
        InputError: the config cannot be read or run, or the data set is not one.
    """
    config = bundle / "configs" / "train.json"
    try:
        parser = ConfigParser(json.loads(config.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(f"{bundle.name}: no train.json that can be read") from error
    if "dataset_dir" not in parser:
        raise InputError(f"{bundle.name}: train.json has no `dataset_dir` that could be set")
    parser["bundle_root"] = str(bundle)
    parser["dataset_dir"] = str(dataset)
    found = []
    for name in _IDS:
        try:
            found.append(parser.get_parsed_content(name))
        except Exception as error:  # whatever a bundle's expressions raise
            raise InputError(_why(error, f"{bundle.name}: train.json: `{name}`")) from error
    cases, transform = found
    if not isinstance(transform, Compose):
        raise InputError(f"{bundle.name}: train.json: `{_IDS[1]}` is no `Compose` of transforms")
    return list(cases), transform


def _why(error: BaseException, where: str) -> str:
    """An input error's own words, which MONAI wraps in others; else what broke, and where."""
    inner: BaseException = error
    while inner.__cause__ is not None and not isinstance(inner, InputError):
        inner = inner.__cause__
    if isinstance(inner, InputError):
        return str(inner)
    first = (str(inner).splitlines() or [""])[0]
    return f"{where}: {type(inner).__name__}: {first[:160]}".rstrip(": ")

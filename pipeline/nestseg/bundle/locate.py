"""Where bundles lie: those that come with nestseg, by name, and any other by its path."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from nestseg_prep.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]
_HOMES = (
    _PACKAGE / "_bundles",  # in a wheel
    _PACKAGE.parents[1] / "bundles",  # in a checkout
)
_INFERENCE = ("inference.json", "inference.yaml", "inference.yml")

NOT_INSTALLED: Final = (
    "the trained bundles are not installed; `pip install nestseg-bundles`, or give the path of a "
    "bundle folder"
)


def home() -> Path:
    """The folder with what bundles of nestseg share: fragments of recipes, and the digests."""
    return next((path for path in _HOMES if path.is_dir()), _HOMES[0])


def data_package() -> Path | None:
    """The folder of the package ``nestseg-bundles``; ``None`` if it is not installed.

    Looked up without importing it: a bundle's code runs only where its digest allows it.
    """
    spec = find_spec("nestseg_bundles")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]).resolve() if places else None


def named() -> dict[str, Path]:
    """The bundles that come with nestseg: name → folder."""
    homes = (data_package(), home())  # a checkout's before those of a wheel
    return {
        path.name: path
        for folder in homes
        if folder is not None
        for path in (config.parents[1] for config in folder.glob("*/configs/inference.json"))
    }


def names() -> list[str]:
    """Names of the bundles that come with nestseg."""
    return sorted(named())


def inference_config(bundle: Path) -> Path | None:
    """The file that says how a bundle runs, JSON before YAML; ``None`` if there is none."""
    paths = (bundle / "configs" / name for name in _INFERENCE)
    return next((path for path in paths if path.is_file()), None)


def find(name_or_path: str) -> Path:
    """The folder of a bundle.

    Args:
        name_or_path: one of :func:`names`, or the path of a bundle folder.

    Raises:
        InputError: there is no such bundle; the message lists those that there are.
    """
    ours = named()
    for folder in (ours.get(name_or_path), Path(name_or_path)):
        if folder is not None and inference_config(folder):
            return folder.resolve()
    if not ours:
        raise InputError(f"{name_or_path}: no such bundle: {NOT_INSTALLED}")
    raise InputError(
        f"{name_or_path}: no such bundle; give the path of a folder with "
        f"configs/inference.json or configs/inference.yaml, or one of: {', '.join(sorted(ours))}"
    )

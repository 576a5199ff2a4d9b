"""Where bundles lie: those that come with nestseg, by name, and any other by its path."""

from __future__ import annotations

from pathlib import Path

from nestseg_prep.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]
_HOMES = (
    _PACKAGE / "_bundles",  # in a wheel
    _PACKAGE.parents[1] / "bundles",  # in a checkout
)


_INFERENCE = ("inference.json", "inference.yaml", "inference.yml")


def home() -> Path:
    """The folder of the bundles that come with nestseg."""
    return next((path for path in _HOMES if path.is_dir()), _HOMES[0])


def names() -> list[str]:
    """The bundles that come with nestseg."""
    return sorted(path.parents[1].name for path in home().glob("*/configs/inference.json"))


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
    for folder in (home() / name_or_path if name_or_path in names() else None, Path(name_or_path)):
        if folder is not None and inference_config(folder):
            return folder.resolve()
    raise InputError(
        f"{name_or_path}: no such bundle; give the path of a folder with "
        f"configs/inference.json or configs/inference.yaml, or one of: {', '.join(names())}"
    )

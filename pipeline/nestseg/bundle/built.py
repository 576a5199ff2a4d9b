"""The configs of a bundle, read and built, with one clear line for whatever is wrong in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from nestseg.bundle.building import first_line, root_cause
from nestseg_prep.errors import InputError


class BundleConfig:
    """One config of a bundle, or several of which a later is laid over the earlier.

    Args:
        bundle: folder of the bundle.
        files: names in its ``configs/``.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, bundle: Path, *files: str) -> None:
        self._bundle = bundle
        self._files = " + ".join(files)
        self._parser = ConfigParser()
        folder = bundle / "configs"
        try:
            self._parser.read_config([folder / name for name in files])
            self._parser.read_meta(folder / "metadata.json")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{bundle.name}: cannot read its configs ({first_line(error)})"
            ) from error
        self._parser["bundle_root"] = str(bundle)

    @property
    def metadata(self) -> dict[str, Any]:
        """What ``metadata.json`` holds."""
        return dict(self._parser["_meta_"])

    def raw(self, name: str) -> Any:
        """What stands under an id, unbuilt; ``None`` if nothing does."""
        return self._parser.get(name)

    def build(self, name: str) -> Any:
        """What an id of the config describes. This runs the bundle's code.

        Raises:
            InputError: the id is missing, or its parts cannot be built.
        """
        try:
            return self._parser.get_parsed_content(name)
        except Exception as error:  # whatever a bundle's expressions raise
            raise InputError(
                f"{self._bundle.name}: {self._files}: `{name}`: {first_line(root_cause(error))}"
            ) from error

"""The configs of a bundle, read and built, with one clear line for whatever is wrong in them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from monai.bundle import ConfigParser

from nestseg.bundle import locate, packages
from nestseg.bundle.building import first_line, root_cause
from nestseg_prep.errors import InputError

_ELSEWHERE: Final = {
    "device": "evaluator#device",
    "network": "evaluator#network",
    "inferer": "evaluator#inferer",
    "preprocessing": "dataset#transform",
    "postprocessing": "evaluator#postprocessing",
}
"""Where MONAI's workflow looks for what has no id of its own."""

_RECONSTRUCT: Final = np.zeros(0).__reduce__()[0]
_SCALAR: Final = np.float64(0).__reduce__()[0]
_ARRAYS: Final[tuple[Any, ...]] = (
    *(np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}),
    *(_RECONSTRUCT, (_RECONSTRUCT, "numpy.core.multiarray._reconstruct")),
    *(_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar")),
)
"""What arrays of numbers in a checkpoint are made of, by their old names too.

DiNTS' bundles keep their architecture so; ``torch.load`` refuses arrays, of which none can do harm.
"""

_CUDA: Final = re.compile(r"""(["'])cuda(:\d+)?\1|^cuda(:\d+)?$""")

_roots: list[str] = []
"""Folder of the bundle whose ``scripts`` can be imported."""


class BundleConfig:
    """One config of a bundle, or several of which a later is laid over the earlier.

    Args:
        bundle: folder of the bundle.
        files: names in its ``configs/``.

    Attributes:
        without_cuda: whether it names a CUDA device by force, and has the CPU in its place.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, bundle: Path, *files: str) -> None:
        self._bundle = bundle
        self._files = " + ".join(files)
        self._parser = ConfigParser()
        self.without_cuda = False
        folder = bundle / "configs"
        try:
            self._parser.read_config([folder / name for name in files])
            self._parser.read_meta(folder / "metadata.json")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{bundle.name}: cannot read its configs ({first_line(error)})"
            ) from error
        self._parser["bundle_root"] = str(bundle)

    @classmethod
    def inference(cls, bundle: Path) -> BundleConfig:
        """The config that says how a bundle runs, JSON or YAML; errors as of the class."""
        path = locate.inference_config(bundle)
        config = cls(bundle, path.name if path else "inference.json")
        _strike_readers(config._parser.config)
        if not torch.cuda.is_available():
            config.without_cuda = _without_cuda(config._parser.config)
        return config

    @property
    def metadata(self) -> dict[str, Any]:
        """What ``metadata.json`` holds."""
        return dict(self._parser["_meta_"])

    def raw(self, name: str) -> Any:
        """What stands under an id, unbuilt; ``None`` if nothing does."""
        return self._parser.get(name)

    def places(self, target: str) -> list[str]:
        """The ids of all components of a class, by the last part of its name."""
        return [
            place
            for place, item in _items(self._parser.config, "")
            if str(item.get("_target_", "")).rpartition(".")[2] == target
        ]

    def build(self, name: str) -> Any:
        """What an id of the config describes. This runs the bundle's code.

        Raises:
            InputError: the id is missing, its parts cannot be built, or a package is missing.
        """
        make_importable(self._bundle)
        place = _ELSEWHERE.get(name, name) if self.raw(name) is None else name
        try:
            with torch.serialization.safe_globals(list(_ARRAYS)):
                return self._parser.get_parsed_content(place)
        except Exception as error:  # whatever a bundle's expressions raise
            root = root_cause(error)
            why = packages.missing(root, self.metadata) or first_line(root)
            raise InputError(f"{self._bundle.name}: {self._files}: `{name}`: {why}") from error


def make_importable(bundle: Path) -> None:
    """Let ``import scripts`` find the code of a bundle, and of no other, from now on.

    Nothing is written beside it: compiled files would make another bundle of it.
    """
    root = str(bundle)
    if not (bundle / "scripts").is_dir() or _roots == [root]:
        return
    for other in _roots:
        sys.path.remove(other)
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
        del sys.modules[name]
    sys.path.insert(0, root)
    sys.dont_write_bytecode = True
    _roots[:] = [root]


def _items(config: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping of a config with its id."""
    if isinstance(config, dict):
        yield place, config
    inner = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in inner:
        if isinstance(value, dict | list):
            yield from _items(value, f"{place}#{key}" if place else str(key))


def _strike_readers(config: Any) -> None:
    """Strike the readers of MONAI's loaders: nestseg gives them what it read itself.

    Those of packages that are not installed could not even be built.
    """
    for _, item in _items(config, ""):
        if str(item.get("_target_", "")).rpartition(".")[2].startswith("LoadImage"):
            item.pop("reader", None)


def _without_cuda(config: Any) -> bool:
    """Put the CPU in place of the CUDA devices that a config names without asking for one.

    As ``monai.bundle run --device cpu`` does, but wherever they stand: DiNTS' bundles load their
    architecture onto the GPU as well. Returns whether there were any.
    """
    pairs = list(config.items() if isinstance(config, dict) else enumerate(config))
    found = False
    for key, value in pairs:
        if isinstance(value, dict | list):
            found |= _without_cuda(value)
        elif isinstance(value, str) and "is_available" not in value and _CUDA.search(value):
            config[key] = _CUDA.sub(lambda match: f"{match[1] or ''}cpu{match[1] or ''}", value)
            found = True
    return found

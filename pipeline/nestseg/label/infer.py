"""A bundle, or one level of it, as an inference task of MONAI Label."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.info import read_info
from nestseg.label import figures
from nestseg.label.images import write_labels
from nestseg.label.models import Models, digest
from nestseg.label.work import WEIGHTS
from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg_prep.errors import InputError
from nestseg_prep.images import ending, read_image


class SegmentTask(InferTask):
    """Segments an image exactly as `nestseg segment` does, and answers in the client's format.

    Args:
        source: the bundle as it came.
        bundle: its working copy.
        models: what loads it.
        level: to which it is pruned; ``None`` for the whole of it.
    """

    def __init__(
        self, source: Path, bundle: Path, models: Models, level: int | None = None
    ) -> None:
        self._source, self._bundle, self._models, self._level = source, bundle, models, level
        self._inference = BundleConfig.inference(bundle)
        self._described: tuple[int, int, int] | None = None
        self._info = read_info(bundle)
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={name: value for value, name in self._info.labels.items()},
            dimension=self._info.input_dims,
            description="",
            config={"result_dtype": "uint8", "result_compress": True},
        )

    @property
    def classes(self) -> dict[int, str]:
        """Number → name."""
        return {number: name for name, number in self.labels.items()}

    @property
    def algorithm(self) -> Algorithm:
        """What a SEG says of the model."""
        return self._models.get(self._bundle, self._level).info.algorithm

    def info(self) -> dict[str, Any]:
        """What clients show of the model."""
        status = (self._bundle / WEIGHTS).stat()
        # Asked for with every request; a text may lag behind weights that copy size and times.
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if seen != self._described:
            self._described, self.description = seen, self._describe()
        return {**super().info(), "version": self._info.version}

    def _describe(self) -> str:
        now = digest(self._bundle)
        came = (self._source / WEIGHTS).is_file() and digest(self._source) == now
        levels = figures.measured(self._source, now)
        return figures.describe(self._inference, self._level, levels, as_it_came=came)

    def is_valid(self) -> bool:
        """Whether there are weights."""
        return (self._bundle / WEIGHTS).is_file()

    def get_path(self, validate: bool = True) -> str | None:
        """The weights, to be downloaded; for uploads no path: they would pass by all checks."""
        return str(self._bundle / WEIGHTS) if validate else None

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Segment ``request["image"]``, a path that the app has allowed.

        Raises:
            InputError: the image or the weights cannot be used; one line, with the mend.
        """
        took: dict[str, float] = {}
        path = Path(request["image"])
        bundle = _timed(took, "load", lambda: self._models.get(self._bundle, self._level))
        image = _timed(took, "pre", lambda: read_image(path, bundle.info.selection))
        found = _timed(took, "infer", lambda: bundle.predict(image))
        suffix = request.get("result_extension") or ending(path) or ".nii.gz"
        if not str(suffix).startswith("."):
            raise InputError(f"{suffix}: no ending of a file; ask for .nii.gz or .nrrd")
        file = _timed(
            took,
            "write",
            lambda: write_labels(
                found.mask,
                str(suffix).lower(),
                compress=_truth(request.get("result_compress", True)),
                dtype=_first(request.get("result_dtype")),
            ),
        )
        result = {
            "label_names": self.labels,
            **asdict(found.sizes),
            "bundle": bundle.info.name,
            "version": bundle.info.version,
            "weights_sha256": bundle.info.weights_sha256,
            "latencies": {**took, "total": round(sum(took.values()), 3)},
        }
        return str(file), result


def _timed(took: dict[str, float], name: str, step: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    done = step()
    took[name] = round(time.perf_counter() - start, 3)
    return done


def _first(value: Any) -> Any:
    """Clients that leave an option alone may send the whole list of its choices."""
    return value[0] if isinstance(value, list) and value else value


def _truth(value: Any) -> bool:
    return str(_first(value)).lower() in ("true", "1", "yes")

"""A bundle that is ready to segment. Imports no torch before a bundle runs in this process.

The code of a bundle runs in this process if the bundle came with nestseg or is trusted, and in a
cage otherwise. Callers see no difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from nestseg.bundle import caged as cages
from nestseg.bundle import locate, trust
from nestseg.bundle.info import BundleInfo
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.segmentation import Prediction
from nestseg_prep.images import as_volume
from nestseg_prep.volume import Volume

if TYPE_CHECKING:
    import os

    import nibabel as nib
    import numpy.typing as npt
    import SimpleITK as sitk  # noqa: N813
    from monai.data.meta_tensor import MetaTensor

ImageLike: TypeAlias = (
    "str | os.PathLike[str] | Volume | nib.spatialimages.SpatialImage | sitk.Image | MetaTensor"
    " | tuple[npt.NDArray[Any], npt.ArrayLike]"
)


class Predictor(Protocol):
    """Where a bundle's code runs: :class:`InProcess` or :class:`Cages`."""

    @property
    def info(self) -> BundleInfo: ...
    @property
    def device(self) -> str: ...
    def predict(self, volume: Volume, options: SegmentOptions) -> Prediction: ...


@dataclass(frozen=True)
class Bundle:
    """A bundle, alone or with the members of an ensemble, loaded by :func:`load_bundle`.

    Attributes:
        options: that it was loaded with, and predicts with unless it is given others.
    """

    _predictor: Predictor
    options: SegmentOptions = SegmentOptions()  # noqa: RUF009  frozen

    @property
    def info(self) -> BundleInfo:
        """Its labels, rules, metadata and versions."""
        return self._predictor.info

    @property
    def device(self) -> str:
        """Where it computes: ``"cpu"``, ``"cuda:0"``."""
        return self._predictor.device

    @property
    def caged(self) -> bool:
        """Whether its code runs in cages, each image in a process of its own."""
        return isinstance(self._predictor, cages.Cages)

    def predict(self, image: ImageLike, options: SegmentOptions | None = None) -> Prediction:
        """Label every voxel of an image.

        Args:
            image: true values (HU for CT). A path, a ``Volume``, an image of nibabel or SimpleITK,
                a MONAI ``MetaTensor``, or a pair (array, affine): see
                :func:`nestseg_prep.images.as_volume`. A file has to fit the rules of the bundle.
            options: what else to compute, and how; those that it was loaded with. The ensemble is
                the one that it was loaded with.

        Raises:
            InputError: the bundle cannot do what the options ask for, the image does not suit it,
                or more than 0.1 % of the voxels are NaN or infinite; fewer count as the lowest
                finite value.
            MemoryError: it ran out of memory.
            BundleCodeError: its code failed in a cage.
            BundleProcessError: its cage died.
        """
        options = self.options if options is None else options
        volume = as_volume(image, self.info.selection)
        found = self._predictor.predict(volume, options)
        return replace(
            found,
            labels=self.info.labels,
            made_by=self.info.algorithm,
            expected=self.info.expected,
            uncertainty_limit=self.info.uncertainty_limit(options),
        )


def load_bundle(
    name_or_path: str | Path,
    options: SegmentOptions | None = None,
    *,
    caged: bool | None = None,
    threads: int = 0,
    memory_mb: int | None = None,
    ahead: bool = False,
) -> Bundle:
    """Load a bundle.

    Args:
        name_or_path: one that comes with nestseg, by its name, or the folder of any other.
        options: what it will be asked for; the ensemble is loaded with it.
        caged: whether its code runs in cages; ``None`` for those that neither came with nestseg nor
            are trusted. ``False`` runs whatever code the bundle holds in this process.
        threads: of the computation; 0 for what the environment says.
        memory_mb: limit of a cage's own data, in units of 10⁶ bytes.
        ahead: whether a cage for the next image is loaded as soon as one image is done.

    Raises:
        InputError: there is no such bundle, it is not as its manifest lists it, it cannot be
            loaded, or this system cannot hold a cage.
    """
    options = options or SegmentOptions()
    folder = locate.find(str(name_or_path))
    if caged is None:
        foreign = [one for one in (folder, *options.ensemble) if _is_foreign(one)]
        caged = bool(foreign)
    if caged:
        limits = cages.CageLimits(threads, memory_mb, ahead)
        return Bundle(cages.load(folder, options, limits), options)
    from nestseg.bundle import in_process  # noqa: PLC0415  the parent of a cage needs no torch

    return Bundle(in_process.load(folder, options, threads), options)


def _is_foreign(folder: Path) -> bool:
    trust.check_manifest(folder)
    if not trust.needs_cage(folder):
        return False
    trust.check_links(folder)
    return True

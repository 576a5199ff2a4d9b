"""From an image to its segmentation, by one bundle or several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from monai.transforms import AsDiscreted, CopyItemsd, Invertd

from nestseg.bundle import as_configured, ensembles, maps, way_back
from nestseg.bundle.linear_back import LinearBack
from nestseg.bundle.options import SegmentOptions
from nestseg.bundle.passes import check_mirrored, check_same_labels, mirrored_axes
from nestseg.inferers import Answers, OverlapTileInferer
from nestseg.outputs.segmentation import Segmentation, uncertainty_score
from nestseg.runtime.fast import graphs_of
from nestseg_prep.errors import InputError
from nestseg_prep.regrid import Regrid
from nestseg_prep.volume import Volume

if TYPE_CHECKING:
    from nestseg.bundle.loaded import LoadedBundle

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Examined:
    """What one bundle found.

    Attributes:
        maps: on the network's grid.
        back: takes one of them to the voxels of the image.
        mask: the labels on the voxels of the image, if they did not go there as the others do.
        grid: the same as a map between grids, where it can be one.
        notes: what was done differently than asked.
        computed_by: by which library, in which numbers.
    """

    maps: maps.Maps
    back: Callable[[Array], Array]
    mask: Array | None
    grid: Regrid | None
    notes: tuple[str, ...]
    computed_by: str


def check(bundle: LoadedBundle, options: SegmentOptions) -> None:
    """Pass if a bundle and the members of its ensemble can do what is asked of them.

    Raises:
        InputError: they cannot; one line.
    """
    if len(bundle.members) != len(options.ensemble):
        raise ValueError("load the bundle with the options that it is asked with")
    everyone = (bundle, *bundle.members)
    check_same_labels({f"{k + 1}. {b.name}": b.labels for k, b in enumerate(everyone)})
    for one in everyone:
        one.network_at(options.level)
        if options.tta == "mirror":
            check_mirrored(one.name, one.mirrored)
        wants = (
            options.tta != "none" and "mirror",
            options.ensemble and "be part of an ensemble",
            options.save_probabilities and "tell probabilities",
            options.precision != "fp32" and f"compute in {options.precision}",
            options.runtime != "auto" and f"be computed by {options.runtime}",
        )
        wanted = [want for want in wants if want]
        if inversion(one) is not None:
            one.answering(options)
        elif wanted:
            raise InputError(
                f"{one.name}: cannot {wanted[0]}: its configs do more than OverlapTileInferer, "
                "argmax and Invertd; run it without"
            )


def examine(bundle: LoadedBundle, volume: Volume, options: SegmentOptions) -> Segmentation:
    """Label every voxel of an image; see :meth:`LoadedBundle.examine`."""
    check(bundle, options)
    if bundle.members:
        found = [_examined(one, volume, options, keep=True) for one in (bundle, *bundle.members)]
        return ensembles.combined(found, volume, options)
    if inversion(bundle) is None:
        mask = as_configured.mask(bundle, volume)
        return Segmentation(volume.with_voxels(mask), notes=bundle.notes)
    found_here = _examined(bundle, volume, options, keep=options.save_probabilities)
    return _single(found_here, volume, options)


def _single(found: Examined, volume: Volume, options: SegmentOptions) -> Segmentation:
    labels, disagreement = found.maps.labels, found.maps.disagreement
    score = uncertainty_map = None
    if disagreement is not None:
        score = uncertainty_score(labels, disagreement)
        if options.save_uncertainty:
            uncertainty_map = volume.with_voxels(found.back(disagreement))

    def probability(values: Array) -> Volume:
        return volume.with_voxels(found.back(values))

    kept = found.maps.probabilities
    return Segmentation(
        volume.with_voxels(found.back(labels) if found.mask is None else found.mask),
        score,
        uncertainty_map,
        found.notes,
        found.computed_by,
        tuple(partial(probability, values) for values in (() if kept is None else kept)),
    )


def _examined(
    bundle: LoadedBundle, volume: Volume, options: SegmentOptions, *, keep: bool
) -> Examined:
    way = inversion(bundle)
    assert way is not None  # noqa: S101  check() saw to it
    if options.gentle and options.precision != "int8":  # another graph would take more memory
        options = replace(options, runtime="torch")
    network = bundle.answering(options)
    inferer = bundle.inferer_at(options.level)
    data, image = bundle.preprocessed(volume)
    axes: tuple[int, ...] = ()
    if options.tta == "mirror":
        axes = mirrored_axes(bundle.mirrored, bundle.labels.values(), image.affine.numpy())
    notes = bundle.notes
    if options.gentle:
        inferer = inferer.gentler(network.geometry)
        shape = image.shape[1 : 1 + len(network.geometry.axes)]
        tile = " × ".join(map(str, inferer.tiling(network, shape).roi_size))
        notes += (f"computed in tiles of {tile} voxels to save memory",)
    grid = way_back.regrid(image, volume)
    linear = None
    if way.of_logits:
        if grid is not None and grid.lines() is not None:
            linear = LinearBack(grid)
        else:
            notes += ("labels went back to the image by the nearest voxel",)
    found = maps.compute(
        image.to(bundle.device),
        Answers(network, axes),
        inferer,
        keep_probabilities=keep,
        back=linear,
    )
    graphs = graphs_of(network)
    notes += graphs.notes
    mask = None if linear is None else linear.labels
    if grid is not None:
        return Examined(found, grid.nearest, mask, grid, notes, graphs.way)
    back = partial(way_back.inverted, data=data, invert=way.invert, volume=volume)
    return Examined(found, back, None, None, notes, graphs.way)


@dataclass(frozen=True)
class WayBack:
    """How a bundle goes from logits to labels on the voxels of the image.

    Attributes:
        invert: the inversion of its preprocessing.
        of_logits: whether it inverts the logits, linearly, and then takes the argmax; otherwise the
            labels, to the nearest voxel.
    """

    invert: Invertd
    of_logits: bool


def inversion(bundle: LoadedBundle) -> WayBack | None:
    """The way back of a bundle that stitches, takes the argmax and goes back, and no more."""
    steps = [s for s in bundle._postprocessing.transforms if not isinstance(s, CopyItemsd)]
    if not isinstance(bundle._inferer, OverlapTileInferer) or len(steps) != 2:
        return None
    of_logits = isinstance(steps[0], Invertd)
    invert, argmax = steps if of_logits else reversed(steps)
    if not isinstance(invert, Invertd) or not _is_argmax(argmax):
        return None
    if any(nearest == of_logits for nearest in invert.nearest_interp):
        return None
    return WayBack(invert, of_logits)


def _is_argmax(step: Any) -> bool:
    return isinstance(step, AsDiscreted) and (
        step.argmax,
        step.to_onehot,
        step.threshold,
        step.rounding,
    ) == ((True,), [None], [None], (None,))

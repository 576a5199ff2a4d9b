"""From an image to its segmentation in this process, by one bundle or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import entr

from nestseg.bundle import as_configured, label_trial, maps, packages, way_back, weights
from nestseg.bundle.built import BundleConfig
from nestseg.bundle.flips import trained_axes
from nestseg.bundle.handover import Entrance
from nestseg.bundle.info import (
    BundleInfo,
    has_background,
    read_info,
    weights_digest,
)
from nestseg.bundle.linear_back import LinearBack
from nestseg.bundle.model import Model
from nestseg.bundle.options import SegmentOptions
from nestseg.bundle.passes import check_mirrored, check_same_labels, mirrored_axes
from nestseg.inferers import Answers, OverlapTileInferer
from nestseg.networks.adapted import Adapted, adapted
from nestseg.outputs.segmentation import STEP, Prediction, stored, uncertainty_score
from nestseg.runtime import calibrated
from nestseg.runtime.fast import graphs_of
from nestseg_prep.errors import InputError
from nestseg_prep.fill import finite
from nestseg_prep.regrid import Regrid
from nestseg_prep.transforms.percentiles import quick_percentiles
from nestseg_prep.transforms.resample import spare_memory
from nestseg_prep.volume import Volume

_PLANES: Final = 8  # of the image, averaged over an ensemble at a time

Array = npt.NDArray[Any]
Stacked = npt.NDArray[np.float32]


def load(bundle: Path, options: SegmentOptions, threads: int = 0) -> InProcess:
    """Build everything that a bundle's inference config describes. This runs the bundle's code.

    Args:
        bundle: its folder.
        options: what it will be asked for; the ensemble is loaded with it.
        threads: of this process from now on; 0 for what the environment says.

    Raises:
        InputError: a config or the weights are missing, damaged or do not fit together, or the
            bundle cannot do what the options ask for.
    """
    if threads:
        torch.set_num_threads(threads)
    loaded = InProcess(tuple(map(load_model, (bundle, *options.ensemble))))
    loaded.check(options)
    return loaded


def load_model(bundle: Path) -> Model:
    """Build one bundle; errors as of :func:`load`."""
    bundle = bundle.resolve()
    info, config = read_info(bundle), BundleConfig.inference(bundle)
    names = ("preprocessing", "network", "inferer", "postprocessing", "device")
    parts = {name: config.build(name) for name in names}
    where = weights.source(config, bundle)
    weights.read_weights(parts["network"], bundle, where)
    entrance = Entrance(parts["preprocessing"], info.input_channels, bundle.name)
    spare_memory(parts["preprocessing"])
    quick_percentiles(parts["preprocessing"])
    by_nearest = way_back.send_labels_by_nearest(parts["postprocessing"])
    postprocessing, resamples = as_configured.without_savers(parts["postprocessing"])
    digest = weights_digest(bundle, where.path)
    network = parts["network"].eval()
    if isinstance(parts["inferer"], OverlapTileInferer):
        network = _adapted(network, bundle.name)
    geometry = getattr(network, "geometry", None)
    dims = len(geometry.axes) if geometry is not None else info.input_dims
    notes: tuple[str, ...] = (way_back.LABELS_BY_NEAREST,) if by_nearest else ()
    if config.without_cuda:
        notes += ("computed on the CPU: the config names a CUDA device, and there is none",)
    if isinstance(network, Adapted):
        notes += (f"its network carries no geometry; {network.sizes}, found out by trial",)
    model = Model(
        info=replace(info, weights_sha256=digest),
        device=parts["device"],
        weights=where.path,
        preprocessing=parts["preprocessing"],
        entrance=entrance,
        network=network,
        inferer=parts["inferer"],
        postprocessing=postprocessing,
        mirrored=trained_axes(bundle, dims),
        int8=calibrated.folder(bundle, digest),
        notes=(*notes, *packages.outdated(info.metadata)),
        amp=config.raw("evaluator#amp") is not None and config.build("evaluator#amp") is True,
        saver_resamples=resamples,
    )
    return model if model.inverse is not None else _with_channels(model)


def _adapted(network: torch.nn.Module, bundle: str) -> Any:
    """The network with a geometry.

    Raises:
        InputError: it carries none, and none can be found out.
    """
    try:
        return adapted(network)
    except ValueError as error:
        raise InputError(f"{bundle}: {error}") from error


def _with_channels(model: Model) -> Model:
    """A model that knows which values its postprocessing gives, and the names of these."""
    named, channels = model.info.named_channels, model.info.output_channels
    channels = channels or len(named)
    if model.info.names_values or (channels == 1 and len(named) > 1):  # names of values
        return model
    background = has_background(named)
    meaning = label_trial.try_channels(model.postprocessing, channels, background=background)
    return replace(model, info=model.info.with_channels(meaning), meaning=meaning)


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


@dataclass(frozen=True)
class InProcess:
    """Models that predict in this process: one, or the members of an ensemble.

    Attributes:
        models: of the bundle itself, then of the bundles that it is averaged with.
    """

    models: tuple[Model, ...]

    @property
    def info(self) -> BundleInfo:
        """Of the first bundle."""
        return self.models[0].info

    @property
    def device(self) -> str:
        """Where the first bundle computes."""
        return str(self.models[0].device)

    def check(self, options: SegmentOptions) -> None:
        """Pass if every model can do what is asked of it.

        Raises:
            InputError: one cannot; one line.
        """
        if len(self.models) != 1 + len(options.ensemble):
            raise ValueError("load the bundle with the options that it is asked with")
        check_same_labels(
            {f"{k + 1}. {m.info.name}": m.info.labels for k, m in enumerate(self.models)}
        )
        for model in self.models:
            _check(model, options)

    def predict(self, volume: Volume, options: SegmentOptions) -> Prediction:
        """Label every voxel of an image; see :meth:`nestseg.bundle.bundle.Bundle.predict`."""
        self.check(options)
        volume = replace(volume, array=finite(volume.array))
        if len(self.models) > 1:
            found = [_examined(one, volume, options, keep=True) for one in self.models]
            return _combined(found, volume, options)
        (model,) = self.models
        if model.inverse is None:
            found_masks = map(volume.with_voxels, as_configured.masks(model, volume))
            return Prediction(tuple(found_masks), notes=model.notes)
        return _single(
            _examined(model, volume, options, keep=options.save_probabilities), volume, options
        )


def _check(model: Model, options: SegmentOptions) -> None:
    name = model.info.name
    model.network_at(options.level)
    if options.tta == "mirror":
        check_mirrored(name, model.mirrored)
    wants = (
        options.tta != "none" and "mirror",
        options.ensemble and "be part of an ensemble",
        options.save_probabilities and "tell probabilities",
        options.precision != "fp32" and f"compute in {options.precision}",
        options.runtime != "auto" and f"be computed by {options.runtime}",
    )
    wanted = [want for want in wants if want]
    if model.inverse is not None:
        model.answering(options)
    elif wanted:
        raise InputError(
            f"{name}: cannot {wanted[0]}: its configs do more than OverlapTileInferer, "
            "argmax and Invertd; run it without"
        )


def _single(found: Examined, volume: Volume, options: SegmentOptions) -> Prediction:
    labels, disagreement = found.maps.labels, found.maps.disagreement
    score = uncertainty_map = None
    if disagreement is not None:
        score = uncertainty_score(labels, disagreement)
        if options.save_uncertainty:
            uncertainty_map = volume.with_voxels(found.back(disagreement))

    def probability(values: Array) -> Volume:
        return volume.with_voxels(found.back(values))

    kept = found.maps.probabilities
    return Prediction(
        (volume.with_voxels(found.back(labels) if found.mask is None else found.mask),),
        score,
        uncertainty_map,
        found.notes,
        found.computed_by,
        _probability=tuple(partial(probability, one) for one in (() if kept is None else kept)),
    )


def _examined(model: Model, volume: Volume, options: SegmentOptions, *, keep: bool) -> Examined:
    way = model.inverse
    assert way is not None  # noqa: S101  check() saw to it
    if options.gentle and options.precision != "int8":  # another graph would take more memory
        options = replace(options, runtime="torch")
    network = model.answering(options)
    inferer = model.inferer_at(options.level)
    data, image = model.preprocessed(volume)
    axes: tuple[int, ...] = ()
    if options.tta == "mirror":
        axes = mirrored_axes(model.mirrored, model.info.labels.values(), image.affine.numpy())
    notes = model.notes
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
        image.to(model.device),
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


def _combined(found: Sequence[Examined], volume: Volume, options: SegmentOptions) -> Prediction:
    """Average the members' probabilities, each on its own way back, and see how they disagree.

    The disagreement is that between the members: the Jensen-Shannon divergence of their
    probabilities, divided by the largest that so many can reach.

    Args:
        found: of each member, with its probabilities.
        volume: the image.
        options: what to keep.
    """
    labels = np.empty(volume.shape, found[0].maps.labels.dtype, order="F")
    disagreement = np.empty(volume.shape, np.uint16, order="F")
    for planes in _slabs(volume):
        of_members = np.stack([_at(one, planes) for one in found])  # (members, C, i, j, planes)
        mean = of_members.mean(axis=0)
        labels[:, :, planes] = mean.argmax(axis=0)
        disagreement[:, :, planes] = stored(_divergence(of_members, mean))

    def probability(value: int) -> Volume:
        out = np.empty(volume.shape, np.uint16, order="F")
        for planes in _slabs(volume):
            mean = np.mean([_at(one, planes, value) for one in found], axis=0)
            out[:, :, planes] = stored(mean[0])
        return volume.with_voxels(out)

    kept = found[0].maps.probabilities
    classes = () if kept is None or not options.save_probabilities else range(len(kept))
    return Prediction(
        (volume.with_voxels(labels),),
        uncertainty_score(labels, disagreement),
        volume.with_voxels(disagreement) if options.save_uncertainty else None,
        tuple(dict.fromkeys(note for one in found for note in one.notes)),
        ", ".join(dict.fromkeys(one.computed_by for one in found)),
        _probability=tuple(partial(probability, value) for value in classes),
    )


def _slabs(volume: Volume) -> Iterator[slice]:
    for first in range(0, volume.shape[2], _PLANES):
        yield slice(first, min(first + _PLANES, volume.shape[2]))


def _at(one: Examined, planes: slice, value: int | None = None) -> Stacked:
    """Stacked ``(C, i, j, planes)`` on the voxels of the image, of one label or all."""
    kept = one.maps.probabilities
    if kept is None or one.grid is None:
        raise InputError(
            "an ensemble takes bundles whose transforms turn, resample and pad the image, and no "
            "others; run them one by one"
        )
    wanted = kept if value is None else kept[value : value + 1]
    there = np.stack([one.grid.nearest(array, planes) for array in wanted])
    return there.astype(np.float32) * np.float32(STEP)


def _divergence(of_members: Stacked, mean: Stacked) -> Stacked:
    """Jensen-Shannon divergence over its largest value, ``(i, j, planes)``."""
    largest = math.log(min(of_members.shape[:2]))
    spread = entr(mean).sum(axis=0) - entr(of_members).sum(axis=1).mean(axis=0)
    return np.asarray(spread / np.float32(largest), dtype=np.float32)

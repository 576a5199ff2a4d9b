"""What Python code calls: one image, a folder of studies, DICOM results. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestseg.batch import digests, session
from nestseg.batch.discovery import Inputs
from nestseg.batch.jobs import Settings
from nestseg.batch.manner import Manner, pool_maker
from nestseg.bundle import locate, trust
from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.bundle.info import WEIGHTS, read_info, weights_digest
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.pruning.level import resolved
from nestseg_prep.dicom.rules import SAFE
from nestseg_prep.disk import check_writable, private
from nestseg_prep.errors import InputError
from nestseg_prep.images import series_at

if TYPE_CHECKING:
    from nestseg.batch.events import Listener
    from nestseg.batch.view import RunView
    from nestseg.bundle.bundle import ImageLike
    from nestseg.outputs.dicom.results import DicomFiles
    from nestseg.outputs.segmentation import Prediction
    from nestseg_prep.dicom.references import SeriesRef
    from nestseg_prep.selection import Selection


def segment(image: ImageLike, bundle: str | Path | Bundle, **options: Any) -> Prediction:
    """Label every voxel of an image.

    Args:
        image: a path (a NIfTI, NRRD or MetaImage file, a picture, or a folder with one DICOM
            series), a ``Volume``, an image of nibabel or SimpleITK, a MONAI ``MetaTensor``, or a
            pair (array, affine to RAS mm); true values (HU for CT).
        bundle: name of a bundle, its folder, or one that :func:`load_bundle` has loaded, which
            saves the loading where there are several images.
        options: fields of ``nestseg.Options``, as ``tta="mirror"``. Bundles of an ``ensemble`` go
            by name or folder.

    Raises:
        InputError: the image or the bundle cannot be used, or the bundle cannot do what the
            options ask for; one line, with the remedy.
        MemoryError: it ran out of memory.
    """
    if isinstance(bundle, Bundle):
        return bundle.predict(image, _changed(bundle.options, options))
    folder = locate.find(str(bundle))
    return load_bundle(folder, _options(folder, options)).predict(image)


def segment_folder(
    paths: str | Path | Sequence[str | Path],
    bundle: str | Path,
    out: str | Path,
    *,
    dicom: str | None = None,
    rtstruct: bool = False,
    selection: Selection | None = None,
    workers: int = 1,
    **options: Any,
) -> RunView:
    """Segment every series below some folders that fits a bundle, as ``nestseg segment`` does.

    Call it again to resume; finished cases are skipped. One bad case never stops the others.

    Args:
        paths: a folder or file, or several.
        bundle: name of a bundle, or its folder.
        out: folder for masks, previews, ``run.json`` and ``report.html``; made if missing.
        dicom: ``"binary"`` or ``"labelmap"`` to write a DICOM SEG and SR for each DICOM series.
        rtstruct: whether to write contours beside them.
        selection: which series are taken, in place of the bundle's own rules.
        workers: processes; 0 computes in this one.
        options: fields of ``nestseg.Options``, as for :func:`segment`.

    Returns:
        A row for each series: its state, the reason where it is not done, its files and volumes.

    Raises:
        InputError: nothing could be started; one line, with the remedy.
        StopError: another run works on ``out``, or it is not writable any more.
    """
    from nestseg import report  # noqa: PLC0415  it takes a quarter of a second

    sources = [paths] if isinstance(paths, str | Path) else paths
    inputs = [Path(path) for path in sources]
    for path in inputs:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
    if dicom not in (None, *Encoding):
        raise InputError(f"dicom {dicom!r}: give one of {', '.join(Encoding)}")
    folder, target = locate.find(str(bundle)), Path(out)
    chosen = _options(folder, options)
    for one in (folder, *chosen.ensemble):
        trust.check_manifest(one)
    encoding = Encoding(dicom) if dicom else None
    settings = Settings(folder, encoding, None, chosen, rtstruct=rtstruct)
    manner = Manner(workers=workers)
    wanted = Inputs(inputs, selection or read_info(folder).selection, SAFE)
    view = run_folder(wanted, settings, target, manner).view
    report.write(target)
    return view


def run_folder(
    inputs: Inputs,
    settings: Settings,
    out: Path,
    manner: Manner,
    *,
    tell: Listener = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> session.Ending:
    """Run what the command line or :func:`segment_folder` asks for.

    Args:
        inputs: what is segmented.
        settings: with what.
        out: folder for the results.
        manner: how the run goes about it.
        tell: is told of everything.
        stop: whether to begin nothing more.

    Raises:
        InputError: nothing could be started.
        OutputError: ``out`` cannot be written.
        StopError: the run ended before its time.
    """
    with ExitStack() as stack:
        stack.enter_context(private())
        check_writable(out, list(inputs.paths))
        options = {"dicom": settings.dicom and settings.dicom.value} | settings.options.settings()
        if settings.rtstruct:  # not mentioned otherwise: outputs of earlier versions stay valid
            options["rtstruct"] = True
        ensemble = settings.options.ensemble
        members, shown = [settings.bundle, *ensemble], dict(options)
        shown["ensemble"] = [one.name for one in ensemble]
        if locator := read_info(settings.bundle).locator:
            folder = locate.find(locator.bundle)
            members.append(folder)
            weights = weights_digest(folder, WEIGHTS)
            version = read_info(folder).version
            shown["locator"] = {
                "name": folder.name,
                "version": version,
                "weights_sha256": weights,
            }
        digest = digests.settings_digest(members, inputs.rules, options)
        order = session.Order(out, inputs, digest, shown, manner.shard, retry=manner.retry)
        return session.run(order, pool_maker(settings, manner), tell, stop=stop)


def write_dicom_seg(
    prediction: Prediction,
    series: str | Path | SeriesRef,
    stem: str | Path,
    encoding: str = "binary",
    *,
    rtstruct: bool = False,
) -> DicomFiles:
    """Write a prediction as a DICOM SEG and its volumes as an SR, and contours if asked for.

    Args:
        prediction: of this series.
        series: the folder of the DICOM series that was segmented, or what :func:`scan` found.
        stem: folder and beginning of the names: ``STEM_seg.dcm`` and ``STEM_sr.dcm``.
        encoding: ``"binary"``, which every reader knows, or ``"labelmap"``.
        rtstruct: whether to write ``STEM_rtstruct.dcm`` as well.

    Returns:
        The paths ``seg``, ``sr`` and ``rtstruct``, and how contours differ from the mask.

    Raises:
        InputError: no DICOM object can refer to the series, or it is another one.
        OutputError: a file reads back differently.
        OSError: one cannot be written. Nothing is left under the names.
    """
    from nestseg.outputs.dicom.results import write_results  # noqa: PLC0415  highdicom: 0.5 s

    ref = series_at(Path(series)) if isinstance(series, str | os.PathLike) else series
    made_from = prediction.masks[0].series_uid
    if prediction.made_by is None or not made_from or made_from != ref.series_uid:
        raise InputError("the prediction was not made from this DICOM series; segment its folder")
    if encoding not in tuple(Encoding):
        raise InputError(f"encoding {encoding!r}: give one of {', '.join(Encoding)}")
    if len(prediction.masks) > 1 and encoding == Encoding.LABELMAP:
        raise InputError("encoding 'labelmap': labels of this bundle may overlap; give 'binary'")
    return write_results(
        prediction.masks,
        ref,
        prediction.volumes,
        prediction.labels,
        prediction.made_by,
        Path(stem),
        Encoding(encoding),
        contours=rtstruct,
    )


def _options(bundle: Path, given: dict[str, Any]) -> SegmentOptions:
    """Options whose ensemble goes by names or folders, and whose level may be ``"auto"``."""
    named = given.get("ensemble", ())
    listed = [named] if isinstance(named, str | Path) else named
    ensemble = tuple(locate.find(str(one)) for one in listed)
    return resolved(bundle, _changed(SegmentOptions(), given | {"ensemble": ensemble}))[0]


def _changed(options: SegmentOptions, given: dict[str, Any]) -> SegmentOptions:
    """Options with some of their fields changed.

    Raises:
        InputError: there is no such option, or not this value.
    """
    known = [one.name for one in fields(options)]
    if unknown := next((name for name in given if name not in known), None):
        raise InputError(f"{unknown}: no such option; give one of {', '.join(known)}")
    return replace(options, **given)

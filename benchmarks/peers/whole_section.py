"""From a folder of CTs to masks on disk: each program as its users start it, whole processes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from benchmarks.peers import environment, inputs, measure, rows
from benchmarks.peers.agreement import Array, grid, read_upright, same_grid
from benchmarks.peers.bundles import write
from benchmarks.peers.sizes import Size
from benchmarks.peers.ways import Way
from nestseg_prep.dicom.scan import scan
from nestseg_prep.site_key import VARIABLE

KEY = "the key of the benchmarks"
PEERS = "for peers"


def run(folder: Path, size: Size, ways: tuple[Way, ...]) -> list[dict[str, Any]]:
    """One row for each way; as :func:`benchmarks.peers.forward_section.run`."""
    os.environ[VARIABLE] = KEY  # the names of our masks follow from it
    _for_peers(folder, size)
    found = rows.interleaved(ways, size.whole_rounds, lambda way: _run(folder, size, way))
    cases = size.peer_series or size.series
    read = _reader(folder)
    truth = partial(read, {"slug": "", "program": "truth"})
    rows.agree(found, read, truth if (folder / "truth").is_dir() else None, cases)
    return found


def _run(folder: Path, size: Size, way: Way) -> measure.Run:
    out = _out(folder, way.slug)
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(exist_ok=True)
    if way.kind == "ours":
        done, series = _ours(folder, size, way, out), size.series
    else:
        done, series = _peer(folder / PEERS, size, way, out), size.peer_series or size.series
    a_series = {"series_s": done.wall_s / series, "series_cpu_s": done.cpu_s / series}
    return replace(done, said=done.said | a_series)


def _ours(folder: Path, size: Size, way: Way, out: Path) -> measure.Run:
    bundle = write(folder, size.patch, way.tiling)
    words = ["-m", "nestseg.cli", "segment", _source(folder), "--bundle", bundle, "--out", out]
    return measure.run([sys.executable, *words, *way.arguments], {VARIABLE: KEY})


def _peer(folder: Path, size: Size, way: Way, out: Path) -> measure.Run:
    if way.program == "nnunet":
        options = ["--patch", str(list(size.patch)), "--overlap", str(way.tiling.overlap)]
        images, python = folder / "nifti", environment.make()
        return measure.python("nnunet", "folder", images, out, *options, interpreter=python)
    bundle = write(folder, size.patch, way.tiling)
    config = bundle / "configs" / "stock.json"
    words = ["-m", "monai.bundle", "run", "--config_file", config, "--bundle_root", bundle]
    words += ["--dataset_dir", _source(folder), "--output_dir", out]
    return measure.run([sys.executable, "-W", "ignore", *words])


def _source(folder: Path) -> Path:
    """DICOM where there is some; nnU-Net alone reads none."""
    return next(path for path in (folder / "dicom", folder / "nifti") if path.is_dir())


def _for_peers(folder: Path, size: Size) -> None:
    """A folder that shows the peers their series, as links."""
    shutil.rmtree(folder / PEERS, ignore_errors=True)
    for kind in ("dicom", "nifti"):
        there = folder / kind
        found = sorted(there.iterdir()) if there.is_dir() else []
        for path in found[: size.peer_series or None]:
            link = folder / PEERS / kind / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


def _out(folder: Path, slug: str) -> Path:
    return folder / "whole" / slug


def _reader(folder: Path) -> Callable[[dict[str, Any], int], Array]:
    """What reads the mask of a case that a row made."""

    def read(row: dict[str, Any], number: int) -> Array:
        home = folder / "truth" if row["program"] == "truth" else _out(folder, row["slug"])
        image = folder / "nifti" / f"{inputs.case(number)}{inputs.ENDS['nifti']}"
        return _upright(home / _names(folder, row["program"], number), image)

    return read


def _names(folder: Path, program: str, number: int) -> str:
    """What each program calls the mask of a case."""
    case = inputs.case(number)
    if program in ("nnunet", "truth"):
        return f"{case}.nii.gz"
    if not (folder / "dicom").is_dir():
        return f"{case}_0000_seg.nii.gz"
    name = case if program == "monai" else _key(folder / "dicom" / case)
    return f"{name}_seg.nii.gz"


@lru_cache
def _key(series: Path) -> str:
    """What ``nestseg`` calls a DICOM series."""
    (ref,) = scan(series).series
    return ref.key


def _upright(path: Path, image: Path) -> Array:
    """A mask in RAS order.

    Raises:
        ValueError: it does not lie on the voxels of its image.
    """
    found, affine = read_upright(path)
    shape, true = grid(image)
    if found.shape != shape or not same_grid(affine, true):
        raise ValueError(f"{path}: not on the voxels of its image")
    return found

"""An int8 model of the weights, by ``nestseg bundle quantize`` on phantoms of other seeds."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from benchmarks.peers import measure, network
from benchmarks.peers.bundles import INT8, write
from benchmarks.peers.phantom import make
from benchmarks.peers.sizes import Size
from benchmarks.peers.ways import QUARTER

SEEDS = (500, 501)


def prepare(folder: Path, size: Size) -> str:
    """Put the model into ``int8`` in a folder, where every bundle that is written there takes it.

    Args:
        folder: of the inputs; beside it stays what was calibrated for this size.
        size: of the comparison; phantoms are as large as its volumes.

    Returns:
        Why there is none; empty if there is one.
    """
    shape = "x".join(map(str, (*size.shape, *size.spacing)))
    weights = hashlib.sha256(network.WEIGHTS.read_bytes()).hexdigest()[:8]
    home = folder.parent / f"calibrated {weights} on {shape}"
    if not (home / INT8).is_dir():
        why = _calibrate(home, size)
        if why:
            return why
    shutil.copytree(home / INT8, folder / INT8, dirs_exist_ok=True)
    return ""


def _calibrate(home: Path, size: Size) -> str:
    """Make the model, whose phantoms stay; why there is none, or nothing."""
    cases = home / "cases"
    cases.mkdir(parents=True, exist_ok=True)
    listed = []
    for seed in SEEDS:
        pair = {kind: f"{kind}{seed}.nii.gz" for kind in ("image", "label")}
        if not (cases / pair["label"]).is_file():
            made = make(size.shape, size.spacing, seed)
            made.write_nifti(cases / pair["image"])
            made.write_truth(cases / pair["label"])
        listed.append(pair)
    datalist = cases / "datalist.json"
    datalist.write_text(json.dumps({"train": [], "val": listed, "test": []}))
    bundle = write(home, size.patch, QUARTER)
    words = ["-m", "nestseg.cli", "bundle", "quantize", bundle, "--data", datalist]
    done = measure.run([sys.executable, *words])
    if done.code:
        return done.error
    shutil.copytree(bundle / "models" / INT8, home / INT8)
    return ""

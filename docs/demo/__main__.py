"""``make demo``: a hospital folder in, masks of both hippocampi out; exits 1 if not sound."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from hospital_tree import build
from scipy import ndimage

from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti

BUNDLE = "hippocampus_unetpp"
PLAUSIBLE_ML = (1.5, 6.0)
IN_ONE_PIECE = 0.9


def main() -> int:
    """Build the folder, scan it, segment it, and look at what came out."""
    work = Path(tempfile.mkdtemp(prefix="nestseg-demo-"))
    hospital, out = work / "hospital", work / "out"
    hospital.mkdir()
    series = build(hospital)
    _nestseg("scan", hospital)
    _nestseg("segment", hospital, "--bundle", BUNDLE, "--out", out)
    problems = [problem for folder in series for problem in _problems(folder, out)]
    print("\n".join(problems) or "\nBoth hippocampi are there, of plausible size and in one piece.")
    print(f"Look at {out}/*_preview.png; masks: {out}/*_seg.nii.gz; record: {out}/run.json")
    return 1 if problems else 0


def _nestseg(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print(f"\n$ nestseg {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "nestseg.cli", *words], check=True)  # noqa: S603


def _problems(folder: Path, out: Path) -> list[str]:
    """What is wrong with the mask of the series in ``folder``."""
    (ref,) = scan(folder).series
    cases = {case["key"]: case for case in json.loads((out / "run.json").read_text())["cases"]}
    case = cases.get(ref.key)
    if case is None or case["state"] != "done":
        return [f"{folder.name}: not segmented"]
    found = []
    total = sum(case["volumes_ml"].values())
    if not PLAUSIBLE_ML[0] <= total <= PLAUSIBLE_ML[1]:
        found.append(f"{folder.name}: {total:.2f} ml is no hippocampus")
    mask = read_nifti(out / case["mask"]).array > 0
    pieces, _ = ndimage.label(mask)
    largest = np.bincount(pieces[mask]).max() / mask.sum()
    if largest <= IN_ONE_PIECE:
        found.append(f"{folder.name}: only {largest:.0%} of the mask in one piece")
    print(f"{folder.name}: {total:.2f} ml, {largest:.1%} in one piece")
    return found


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks.peers.inputs FOLDER JSON``: the volumes that every way is given.

``dicom/case00/…``, ``nifti/case00.nii.gz`` (named as nnU-Net wants them), ``truth/case00.nii.gz``,
and the first case on the network's grid: ``image.npy`` (what the network sees) and ``truth.npy``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import measure
from benchmarks.peers.sizes import Size

DONE = "inputs.json"
SEED = 0


def prepare(folder: Path, size: Size, image: Path | None = None) -> None:
    """Write the inputs in a process of its own, unless they are there from the last time.

    Args:
        folder: for them; emptied if it holds others.
        size: of the phantoms.
        image: NIfTI of a real CT to use in their place; there is no truth then.
    """
    wanted = {
        "shape": list(size.shape),
        "spacing": list(size.spacing),
        "series": size.series,
        "seed": SEED,
        "image": str(image or ""),
    }
    done = folder / DONE
    if done.is_file() and json.loads(done.read_text()) == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = measure.python("inputs", folder, json.dumps(wanted))
    if found.code:
        raise SystemExit(f"no inputs: {found.error}")
    done.write_text(json.dumps(wanted))


def case(number: int) -> str:
    """Name of a case."""
    return f"case{number:02d}"


def write(folder: Path, wanted: dict[str, Any]) -> None:
    """Write the inputs; see the module."""
    from benchmarks.peers.phantom import make

    for number in range(wanted["series"]):
        name = case(number)
        shape, spacing = tuple(wanted["shape"]), tuple(wanted["spacing"])
        made = make(shape, spacing, wanted["seed"] + number, name)
        nifti, truth = (folder / kind / f"{name}{end}" for kind, end in ENDS.items())
        for path in (nifti, truth):
            path.parent.mkdir(exist_ok=True)
        made.write_dicom(folder / "dicom" / name)
        made.write_nifti(nifti)
        made.write_truth(truth)
        if not number:
            _on_network_grid(folder, nifti, truth)


ENDS = {"nifti": "_0000.nii.gz", "truth": ".nii.gz"}


def write_real(folder: Path, image: Path) -> None:
    """The same for one real CT, which has neither DICOM nor truth."""
    target = folder / "nifti" / f"{case(0)}{ENDS['nifti']}"
    target.parent.mkdir()
    shutil.copyfile(image, target)
    _on_network_grid(folder, target, None)


def _on_network_grid(folder: Path, image: Path, truth: Path | None) -> None:
    """What the network sees of a case, by the transforms of its bundle."""
    import numpy as np
    from monai.bundle import ConfigParser
    from monai.transforms import Compose, Orientationd, Spacingd

    from benchmarks.peers import bundles, network, ways
    from nestseg_prep.transforms import LoadVolumed

    config = bundles.write(folder, network.PATCH, ways.QUARTER) / "configs" / "inference.json"
    parser = ConfigParser()
    parser.read_config(config)
    seen = parser.get_parsed_content("preprocessing")({"image": image})["image"]
    np.save(folder / "image.npy", seen[0].numpy())
    if truth is not None:
        axes = (("L", "R"), ("P", "A"), ("I", "S"))
        steps = [
            LoadVolumed("label"),
            Orientationd("label", "RAS", labels=axes),
            Spacingd("label", (network.SPACING_MM,) * 3, mode="nearest"),
        ]
        label = Compose(steps)({"label": truth})["label"]
        np.save(folder / "truth.npy", label[0].numpy().astype(np.uint8))


if __name__ == "__main__":
    _wanted = json.loads(sys.argv[2])
    if _wanted["image"]:
        write_real(Path(sys.argv[1]), Path(_wanted["image"]))
    else:
        write(Path(sys.argv[1]), _wanted)

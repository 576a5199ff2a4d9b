"""The segmentation bundles of MONAI's Model Zoo: masks of ``nestseg segment`` beside MONAI's own.

    python benchmarks/zoo.py MODELS_FOLDER [NAME ...] [--dicom]

MODELS_FOLDER is ``models/`` of a checkout of the Model Zoo, which is not part of nestseg. Each
bundle is copied, unedited, and gets random weights, since its own are not in the checkout; the
biases of the last layer are set so that every class occurs. Then one image of noise and blobs is
segmented by ``python -m monai.bundle run`` and by ``nestseg segment``, in a cage.

What had to be edited (``EDITS``), and what MONAI had to be told (``TOLD``), stands in the notes. A
name with a ``+`` is a variant of the bundle before it. Some bundles need the package ``einops``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser
from scipy import ndimage

from nestseg.bundle.info import read_info
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

NAMES = (
    "spleen_ct_segmentation",
    "wholeBody_ct_segmentation",
    "ventricular_short_axis_3label",
    "prostate_mri_anatomy",
    "swin_unetr_btcv_segmentation",
    "renalStructures_UNEST_segmentation",
    "wholeBrainSeg_Large_UNEST_segmentation",
    "pediatric_abdominal_ct_segmentation",
    "segmentation_template",
    "pancreas_ct_dints_segmentation",
    "multi_organ_segmentation",
    "brats_mri_segmentation",
    "brats_mri_segmentation+overlap",
    "renalStructures_CECT_segmentation",
    "spleen_deepedit_annotation",
)
_ONE_OF_FOUR = (
    ('"in_channels": 4', '"in_channels": 1'),
    (
        '"image_only": false\n            }',
        '"image_only": false\n            },\n'
        '{"_target_": "EnsureChannelFirstd", "keys": "@image_key"}',
    ),
)
EDITS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "brats_mri_segmentation": ("cut down to one image of the four;", _ONE_OF_FOUR),
    "brats_mri_segmentation+overlap": (
        "cut down to one image of the four, and without the step that merges its labels;",
        (*_ONE_OF_FOUR, ('"_target_": "Lambdad"', '"_disabled_": true, "_target_": "Lambdad"')),
    ),
    "swin_unetr_btcv_segmentation": (
        "without `img_size`, which MONAI 1.6 no longer takes;",
        (('"img_size": 96,', ""),),
    ),
}
"""What has to be changed in a bundle before anything can run it here: why, and text → text."""
_DINTS = {
    "arch_ckpt": "$torch.load(@arch_ckpt_path, weights_only=False)",
    "dints_space#device": "$torch.device('cpu')",
}
_NO_GPU = ("MONAI told to use the CPU, and to unpickle the architecture;", _DINTS)
TOLD: dict[str, tuple[str, dict[str, str]]] = {
    "pancreas_ct_dints_segmentation": _NO_GPU,
    "multi_organ_segmentation": _NO_GPU,
}
"""What MONAI has to be told to run a bundle here at all: words, and id → value."""
RUNS = ("run", "evaluating", "inference")
"""Ids under which the bundles keep what is to be run."""


def main() -> None:
    """Compare, and print a line for each bundle."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("models", type=Path)
    options.add_argument("names", nargs="*", default=NAMES)
    options.add_argument("--dicom", action="store_true", help="give nestseg the image as DICOM")
    options.add_argument("--keep", type=Path, help="work here, and leave everything there")
    arguments = options.parse_args()
    print("| bundle | voxels | equal | labels found | MONAI s | nestseg s | notes |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as made:
            work = Path(made) if arguments.keep is None else arguments.keep / name
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True, exist_ok=True)
            print(_row(name, arguments.models, work, dicom=arguments.dicom), flush=True)


def _row(name: str, models: Path, work: Path, *, dicom: bool) -> str:
    folder = name.partition("+")[0]
    bundle = Path(shutil.copytree(models / folder, work / folder))
    config = _config(bundle)
    edit, changes = EDITS.get(name, ("", ()))
    for before, after in changes:
        config.write_text(config.read_text().replace(before, after, 1))
    told, _ = TOLD.get(name, ("", {}))
    (work / "in").mkdir()
    image = work / ("same.nii.gz" if dicom else "in/case.nii.gz")
    write = _write_series if dicom else _write_image
    write(image, bundle)
    try:
        if "dints_space" in config.read_text():
            _write_architecture(bundle)
        _write_weights(bundle, config, image)
    except Exception as error:  # noqa: BLE001  whatever a bundle needs that is not here
        why = str(error).strip().splitlines()[-1] if str(error).strip() else ""
        return f"| {name} | | | | | | cannot be built here: {why[:150]} |"
    started = time.perf_counter()
    theirs, note = _monai(bundle, config, image, work / "monai")
    between = time.perf_counter()
    ours, why = _nestseg(bundle, work)
    ended = time.perf_counter()
    notes = " ".join(one for one in (edit, told, note, why) if one)
    seconds = f"{between - started:.0f} | {ended - between:.0f}"
    if theirs is None or ours is None:
        return f"| {name} | | | | {seconds} | {notes} |"
    equal = int((theirs == ours).sum()) if theirs.shape == ours.shape else 0
    labels = ours.shape[3] if ours.ndim == 4 else len(np.unique(ours))
    return f"| {name} | {ours.size} | {equal} | {labels} | {seconds} | {notes} |"


def _config(bundle: Path) -> Path:
    return next(
        path
        for kind in ("json", "yaml", "yml")
        if (path := bundle / "configs" / f"inference.{kind}").is_file()
    )


def _parser(bundle: Path, config: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(config)
    parser.read_meta(bundle / "configs" / "metadata.json")
    parser["bundle_root"] = str(bundle)
    for place, value in TOLD.get(bundle.name, ("", {}))[1].items():
        parser[place] = value
    return parser


def _write_architecture(bundle: Path) -> None:
    """The part of DiNTS' checkpoints that says which edges there are: all of them."""
    parts = {"node_a": np.ones((13, 4)), "arch_code_a": np.ones((12, 10))}
    parts["arch_code_c"] = np.random.default_rng(0).integers(0, 5, (12, 10))
    (bundle / "models").mkdir()
    torch.save(parts, bundle / "models" / "search_code_18590.pt")


def _shape(bundle: Path) -> tuple[int, ...]:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    return (48, 40, 6) if len(image["spatial_shape"]) == 2 else (48, 40, 32)


def _write_series(path: Path, bundle: Path) -> None:
    """A DICOM series for nestseg, and the same as NIfTI for MONAI."""
    columns, rows, slices = _shape(bundle)
    modality: Any = (read_info(bundle).selection.modalities or ("CT",))[0]
    made = Phantom(modality=modality, columns=columns, rows=rows, slices=slices)
    phantom.write(made.datasets(), path.parent / "in")
    (series,) = scan(path.parent / "in").series
    write_nifti(read_volume(series), path)


def _write_image(path: Path, bundle: Path) -> None:
    """Noise at two scales, oblique, with unequal spacing."""
    shape = _shape(bundle)
    random = np.random.default_rng(1)
    array = random.normal(0, 60, shape) + 300 * ndimage.gaussian_filter(
        random.normal(0, 4, shape), 3
    )
    turn = np.deg2rad(7)
    affine = np.diag([-1.25, -1.1, 1.9, 1.0])
    affine[:3, :3] = (
        np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        @ affine[:3, :3]
    )
    affine[:3, 3] = 40, 35, -300
    nib.save(nib.Nifti1Image(array.astype(np.int16), affine), path)


def _write_weights(bundle: Path, config: Path, image: Path) -> None:
    """Weights by which every class occurs, written where the config looks for them."""
    words = [sys.executable, __file__, "--weights", str(bundle), str(config), str(image)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=bundle, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def make_weights(bundle: Path, config: Path, image: Path) -> None:
    """In a process of its own: see :func:`_write_weights`."""
    sys.path.insert(0, str(bundle))
    sys.dont_write_bytecode = True
    torch.manual_seed(0)
    parser = _parser(bundle, config)
    _drop_readers(parser.config)
    network = parser.get_parsed_content("network").eval()
    loaded = parser.get_parsed_content("preprocessing")({_image_key(parser): str(image)})
    inferer = parser.get_parsed_content("inferer")

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return (
                torch.as_tensor(inferer(loaded["image"][None], network)).transpose(0, 1).flatten(1)
            )

    found = logits()
    for layer in reversed([one for one in network.modules() if _is_last(one, len(found))]):
        layer.bias.data += 7
        moved = torch.allclose(logits(), found + 7, atol=0.1)
        layer.bias.data -= 7
        if moved:
            scale = 1 / found.std(dim=1).clamp(min=1e-6)
            layer.weight.data *= scale.reshape(-1, *(1,) * (layer.weight.dim() - 1))
            layer.bias.data = (layer.bias.data - found.mean(dim=1)) * scale
            break
    else:
        print("no last layer found", file=sys.stderr)
    path = Path(_weights_path(parser, bundle))
    path.parent.mkdir(exist_ok=True)
    torch.save(network.state_dict(), path)


def _is_last(layer: Any, channels: int) -> bool:
    return (
        isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d)
        and layer.out_channels == channels
        and layer.bias is not None
    )


def _drop_readers(config: Any) -> None:
    """Strike MONAI's readers that need a package which is not here; nibabel takes their place."""
    items = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict) and config.get("_target_") == "LoadImaged":
        config.pop("reader", None)
    for item in items:
        if isinstance(item, dict | list):
            _drop_readers(item)


def _readers(config: Any, place: str) -> Iterator[tuple[str, str]]:
    """Ids of the loaders that name a reader, and its name."""
    if isinstance(config, dict) and "reader" in config:
        yield place, config["reader"]
    pairs = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in pairs:
        if isinstance(value, dict | list):
            yield from _readers(value, f"{place}#{key}" if place else str(key))


def _image_key(parser: ConfigParser) -> str:
    key = parser.get("image_key")
    return key if isinstance(key, str) else "image"


def _weights_path(parser: ConfigParser, bundle: Path) -> str:
    for place in ("checkpointloader", "handlers#0"):
        if parser.get(f"{place}#load_path") is not None:
            return str(parser.get_parsed_content(f"{place}#load_path"))
    return str(bundle / "models" / "model.pt")


def _monai(bundle: Path, config: Path, image: Path, out: Path) -> tuple[Any, str]:
    """The mask of MONAI's own run, and what was overridden for it."""
    text = config.read_text()
    content = json.loads(text) if config.suffix == ".json" else yaml.safe_load(text)
    run = next(name for name in RUNS if name in content)
    words = [sys.executable, "-m", "monai.bundle", "run", run, "--config_file", str(config)]
    key = content.get("image_key", "image")
    words += ["--bundle_root", str(bundle), "--output_dir", str(out)]
    words += ["--dataset_dir", str(image.parent)]
    words += ["--dataset#data", f"$[{{'{key}': '{image}'}}]", "--dataloader#num_workers", "0"]
    for place, value in TOLD.get(bundle.name, ("", {}))[1].items():
        words += [f"--{place}", value]
    note = ""
    steps = content["postprocessing"]["transforms"]
    kinds = [step["_target_"] for step in steps]
    if "AsDiscreted" in kinds and "Invertd" in kinds[kinds.index("AsDiscreted") :]:
        place = f"--postprocessing#transforms#{kinds.index('Invertd')}#nearest_interp"
        if not steps[kinds.index("Invertd")].get("nearest_interp", True):
            words += [place, "true"]
            note = "MONAI told to invert its labels by the nearest voxel;"
    for place, reader in _readers(content, ""):
        words += [f"--{place}#reader", "NibabelReader"]
        note += f" MONAI told to read by nibabel, not {reader};"
    done = subprocess.run(words, capture_output=True, text=True, cwd=bundle, check=False)
    found = sorted(out.rglob("*.nii*"))
    if done.returncode or not found:
        lines = (done.stderr or done.stdout).strip().splitlines() or [""]
        return None, f"MONAI: {lines[-1][:160]};"
    return np.asarray(nib.load(found[0]).dataobj), note


def _nestseg(bundle: Path, work: Path) -> tuple[Any, str]:
    words = [sys.executable, "-P", "-m", "nestseg.cli", "segment", str(work / "in")]
    words += ["--bundle", str(bundle), "--out", str(work / "nestseg")]
    environment = os.environ | {"XDG_STATE_HOME": str(work / "state"), "COLUMNS": "400"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    found = sorted((work / "nestseg").rglob("*_seg*.nii.gz"))
    if not found:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if bundle.name in line]
        lines = lines or (done.stdout + done.stderr).strip().splitlines() or [""]
        return None, f"nestseg: {lines[-1].strip()[:300]}"
    masks = [np.asarray(nib.load(one).dataobj) for one in found]
    return masks[0] if len(masks) == 1 else np.stack(masks, axis=-1), ""


if __name__ == "__main__":
    if sys.argv[1:2] == ["--weights"]:
        make_weights(*map(Path, sys.argv[2:]))
    else:
        main()

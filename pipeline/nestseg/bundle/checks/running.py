"""Whether a bundle runs here: ``segment``, and the validation of its training, on a phantom."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from monai.bundle import ConfigParser

from nestseg.bundle import building, cage, caged, locate, trace, trust
from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.bundle.checks import layout, workflow
from nestseg.bundle.configs import shown
from nestseg.bundle.findings import Finding
from nestseg.bundle.info import BundleInfo, read_info
from nestseg.bundle.options import SegmentOptions
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

LONGEST_S: Final = 900.0
_SIDE_MM: Final = 64.0
_SIDES: Final = np.array([1.0, 0.9, 0.8])  # unequal, so that what mixes up axes shows
_PICTURE: Final = (96, 80, 1)
_LONGEST: Final = 300


def phantom(info: BundleInfo) -> tuple[Volume, Volume]:
    """An image that fits the rules of a bundle, and labels for it: an ellipsoid in noise.

    Args:
        info: what the bundle says of itself.

    Returns:
        The image, in HU for CT; and every label, as slices of the ellipsoid.
    """
    rules, values = info.selection, max(info.labels, default=1)
    low, high = rules.extent_mm or (0.0, np.inf)
    side = min(max(_SIDE_MM, 1.1 * low / _SIDES.min()), 0.9 * high)
    spacing = np.array([1.0, 1.0, np.mean(rules.slice_mm or [1.0])])
    shape = np.maximum(np.rint(side * _SIDES / spacing).astype(int), 1)
    if rules.pictures:
        shape, spacing = np.array(_PICTURE), np.ones(3)
    ranges = (np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1) for n in shape)
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"))
    inside = (grid**2).sum(axis=0) < 0.5
    label = np.where(inside, 1 + (grid[0] + 1) / 2 * values, 0).astype(np.uint16)
    dark, bright, noise = (-200, 60, 20) if "CT" in (rules.modalities or ()) else (40, 180, 8)
    image = np.where(inside, bright, dark) + np.random.default_rng(0).normal(0, noise, shape)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])  # LPS, as DICOM has it
    return (
        Volume(image.astype(np.float32), affine, is_picture=rules.pictures),
        Volume(label.clip(0, values), affine),
    )


def segments(bundle: Path) -> list[Finding]:
    """Segment a phantom as ``nestseg segment`` does, in a cage if the bundle needs one."""
    image = None
    try:
        if trust.needs_cage(bundle):  # as load_bundle does it, but what hangs is ended
            limits = caged.CageLimits(longest_s=LONGEST_S)
            ready = Bundle(caged.load(bundle, SegmentOptions(), limits))
        else:
            ready = load_bundle(bundle)
        image, _ = phantom(ready.info)
        ready.predict(image)
    except Exception as error:  # noqa: BLE001  whatever a bundle raises
        trace.show(error)
        config = locate.inference_config(bundle)
        what = "be loaded" if image is None else f"segment {_size(image)}"
        problem = f"cannot {what}: {_why(error, bundle.name)}"
        return [Finding(config.name if config else ".", "", problem, "")]
    return []


def validates(bundle: Path, scratch: Path) -> list[Finding]:
    """Run the validation of a train config once on a phantom, with a network that learned nothing.

    Args:
        bundle: a copy of the bundle, which its configs may write into.
        scratch: where the phantom and outputs go.
    """
    path = layout.config_file(bundle, "train")
    if path is None:
        return []
    try:
        parser = ConfigParser()
        parser.read_config(str(path))
        if "validate#evaluator" not in parser:
            return []
        case = {}
        image, label = phantom(read_info(bundle))
        for key, volume in (("image", image), ("label", label)):
            case[key] = str(scratch / f"{key}.nii.gz")
            write_nifti(volume, Path(case[key]))
        parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(scratch)
        workflow.on_cases(parser, [case], scratch)
        with workflow.quiet():
            parser.get_parsed_content("validate#evaluator").run()
    except Exception as error:  # noqa: BLE001  whatever a bundle raises
        trace.show(error)
        problem = f"fails on a phantom: {_why(error, bundle.name)}"
        return [Finding(shown(path, bundle), "validate#evaluator", problem, "fix the config")]
    return []


def _why(error: Exception, bundle: str) -> str:
    """What went wrong, in full: the image is a phantom, and no patient's."""
    root = building.root_cause(error)
    ours = next((one for one in (error, root) if isinstance(one, InputError)), None)
    if ours is not None:
        return str(ours).removeprefix(f"{bundle}: ")
    if isinstance(root, caged.BundleCodeError | caged.BundleProcessError):
        return str(root)
    place = trace.told(error, of_arrays=False)
    words = building.first_line(root).partition(": ")[2]
    return cage.printable(f"{type(root).__name__}{place}: {words}".rstrip(": "), _LONGEST)


def _size(image: Volume) -> str:
    return f"an image of {' × '.join(map(str, image.shape))} voxels"

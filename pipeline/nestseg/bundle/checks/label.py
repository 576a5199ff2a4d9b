"""What MONAI Label asks of a bundle beyond MONAI: it runs the transforms without the evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nestseg.bundle.checks import layout
from nestseg.bundle.checks.preprocessing import expanded
from nestseg.bundle.findings import Finding, warning

_FILE = "inference.json"
_LOAD_AND_RESAMPLE = "Spacingd"


def check(bundle: Path, metadata: dict[str, Any]) -> list[Finding]:
    """Check ids, transforms and file names that MONAI Label relies on."""
    try:
        parser, train = layout.merged(bundle, "inference"), layout.merged(bundle, "train")
    except (ValueError, KeyError):
        return []  # the workflow's check says so
    if parser is None:
        return []
    found = [
        Finding(_FILE, key, "is missing", "MONAI Label builds its task from it")
        for key in ("network_def", "preprocessing", "postprocessing", "inferer")
        if key not in parser
    ]
    if train is not None and "network" not in train:
        found.append(
            Finding("train.json", "network", "is missing", "MONAI Label loads weights by it")
        )
    found += [
        warning(
            path.relative_to(bundle).as_posix(), "", "a name shorter than model.pt", "rename it"
        )
        for path in sorted((bundle / "models").glob("*.pt"))
        if len(path.name) < len("model.pt")  # MONAI Label takes the shortest name for the weights
    ]
    before = expanded(parser, parser.get("preprocessing"))
    after = expanded(parser, parser.get("postprocessing"))
    if before is not None and after is not None:
        found += _transforms(before, after, classes=_classes(metadata))
    return found


def _classes(metadata: dict[str, Any]) -> int:
    pred = metadata.get("network_data_format", {}).get("outputs", {}).get("pred", {})
    return int(pred.get("num_channels", 1)) if isinstance(pred, dict) else 1


def _transforms(
    before: list[dict[str, Any]], after: list[dict[str, Any]], classes: int
) -> list[Finding]:
    found = []
    names = [_name(step) for step in after]
    if "Invertd" not in names:
        problem = "does not undo the preprocessing"
        found.append(Finding(_FILE, "postprocessing", problem, "add Invertd before SaveImaged"))
    for step in after:
        if _name(step) == "SaveImaged" and "uint8" not in str(step.get("output_dtype")):
            problem = "saves label maps as float32"
            remedy = "set output_dtype to $np.uint8"
            found.append(Finding(_FILE, "postprocessing", problem, remedy))
        if _name(step) == "Invertd" and step.get("keys") not in ("pred", ["pred"]):
            found.append(Finding(_FILE, "postprocessing", "inverts another key", "invert `pred`"))
    if classes > 256:
        found.append(Finding(_FILE, "network_def", "has more classes than uint8", "use fewer"))
    if any(_name(step) == _LOAD_AND_RESAMPLE for step in before) and not _guarded(before):
        problem = "breaks in MONAI Label: Spacingd takes its text `image_path` for metadata"
        remedy = "rename image_path before Spacingd, and back in postprocessing"
        found.append(warning(_FILE, "preprocessing", problem, remedy))
    return found


def _guarded(before: list[dict[str, Any]]) -> bool:
    for step in before:
        if _name(step) == _LOAD_AND_RESAMPLE:
            return False
        if _name(step) == "DeleteItemsd" and "image_path" in step.get("keys", ()):
            return True
    return False


def _name(step: dict[str, Any]) -> str:
    """``monai.transforms.SaveImageD`` → ``SaveImaged``."""
    name = str(step.get("_target_", "")).rpartition(".")[2]
    for ending in ("Dict", "D"):
        if name.endswith(ending) and not name.endswith("3D"):
            return f"{name.removesuffix(ending)}d"
    return name

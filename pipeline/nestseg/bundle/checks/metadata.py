"""``metadata.json``: what hosts read from it, held more strictly than MONAI's schema does."""

from __future__ import annotations

import json
import re
from importlib import metadata as installed
from pathlib import Path
from typing import Any

from nestseg.bundle import configs
from nestseg.bundle.findings import Finding, warning
from nestseg.outputs.plausibility import expectations, uncertainty_limit
from nestseg_prep.errors import InputError

FILE = "metadata.json"
_TEXTS = (
    "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors",
    "copyright", "name", "intended_use", "data_source", "image_classes", "label_classes",
    "pred_classes",
)  # fmt: skip
_TENSOR = ("type", "format", "num_channels", "spatial_shape", "dtype", "value_range")
_SEMVER = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.\-]+)?")


def read(bundle: Path) -> dict[str, Any] | None:
    """The metadata; ``None`` if there are none to check."""
    path = bundle / "configs" / FILE
    content = configs.read(path, bundle).content if path.is_file() else None
    return content if isinstance(content, dict) and content else None


def check(metadata: dict[str, Any]) -> list[Finding]:
    """Check version, texts, packages and the formats of inputs and outputs."""
    found = [
        Finding(FILE, key, "is missing or empty", "write it")
        for key in _TEXTS
        if not isinstance(metadata.get(key), str) or not metadata[key].strip()
    ]
    version = str(metadata.get("version", ""))
    if not _SEMVER.fullmatch(version):
        found.append(Finding(FILE, "version", f"{version!r} is no version a.b.c", "write one"))
    if version not in (metadata.get("changelog") or {}):
        found.append(Finding(FILE, "changelog", f"does not mention {version}", "say what changed"))
    if not metadata.get("references"):
        found.append(warning(FILE, "references", "is missing or empty", "name the papers"))
    if "supported_apps" in metadata and not isinstance(metadata["supported_apps"], dict):
        found.append(Finding(FILE, "supported_apps", "is no object", "write {}"))
    return found + _expected(metadata) + _packages(metadata) + _formats(metadata)


def check_schema(metadata: dict[str, Any], schema: Path) -> list[Finding]:
    """Hold the metadata against a JSON schema.

    Raises:
        InputError: the schema cannot be read, or the package jsonschema is not installed.
    """
    try:
        import jsonschema  # noqa: PLC0415  a package for development
    except ImportError:
        raise InputError("--schema needs the package jsonschema; install it") from None
    try:
        rules = json.loads(schema.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{schema}: no JSON schema; check the path") from error
    validator = jsonschema.validators.validator_for(rules)(rules)
    return [
        Finding(
            FILE, "#".join(map(str, error.absolute_path)), error.message[:200], "see the schema"
        )
        for error in validator.iter_errors(metadata)
    ]


def _expected(metadata: dict[str, Any]) -> list[Finding]:
    """What flags are raised by: written wrongly, no case could be segmented."""
    found = []
    for key, read_key in (
        ("plausibility", expectations),
        ("uncertainty_at_most", uncertainty_limit),
    ):
        try:
            read_key(metadata)
        except InputError:
            found.append(Finding(FILE, key, "cannot be read", "see docs/segmentation_options.md"))
    return found


def _packages(metadata: dict[str, Any]) -> list[Finding]:
    packages = metadata.get("required_packages_version")
    place = "required_packages_version"
    if not isinstance(packages, dict):
        return [Finding(FILE, place, "is missing", "list package: version")]
    found = []
    for package, version in packages.items():
        try:
            here = installed.version(package)
        except installed.PackageNotFoundError:
            problem = "is not installed here"
            found.append(warning(FILE, f"{place}#{package}", problem, f"pip install {package}"))
            continue
        if here.split(".")[0] != str(version).split(".")[0]:
            problem = f"asks for {version}; {here} is installed"
            found.append(
                warning(FILE, f"{place}#{package}", problem, "test, then raise the version")
            )
    return found


def _formats(metadata: dict[str, Any]) -> list[Finding]:
    data = metadata.get("network_data_format")
    if not isinstance(data, dict):
        return [Finding(FILE, "network_data_format", "is missing", "describe inputs and outputs")]
    found = []
    for side, expected in (("inputs", "image"), ("outputs", "pred")):
        tensors = data.get(side)
        place = f"network_data_format#{side}"
        if not isinstance(tensors, dict) or not tensors:
            found.append(Finding(FILE, place, "is missing", "describe the tensor"))
            continue
        if next(iter(tensors)) != expected:
            problem = f"begins with `{next(iter(tensors))}`; hosts look for `{expected}`"
            found.append(Finding(FILE, place, problem, "rename it"))
        for name, tensor in tensors.items():
            found += [
                Finding(FILE, f"{place}#{name}#{key}", "is missing", "describe the tensor")
                for key in _TENSOR
                if not isinstance(tensor, dict) or key not in tensor
            ]
    return found + _channels(data)


def _channels(data: dict[str, Any]) -> list[Finding]:
    tensor = (data.get("outputs") or {}).get("pred")
    if not isinstance(tensor, dict):
        return []
    place = "network_data_format#outputs#pred#channel_def"
    names = tensor.get("channel_def")
    if not isinstance(names, dict):
        return [Finding(FILE, place, "is missing", "name every class")]
    found = []
    wanted = [str(n) for n in range(int(tensor.get("num_channels", 0)))]
    if list(names) != wanted and len(wanted) > 1:
        problem = f"names the classes {', '.join(names)}; the output has {len(wanted)} channels"
        found.append(Finding(FILE, place, problem, "name every class, from 0"))
    values = tensor.get("label_def", names)  # of regions that overlap, channel 0 is one, too
    zero = values.get("0", "") if isinstance(values, dict) else ""
    if zero.lower() != "background" and len(wanted) > 1:
        found.append(
            Finding(FILE, f"{place}#0", "is not `background`", "hosts skip that name alone")
        )
    lower = [str(name).lower() for name in names.values()]
    if len(set(lower)) < len(lower):
        problem = "holds a name twice, once case is ignored"
        found.append(Finding(FILE, place, problem, "MONAI Label lowers the case of names"))
    return found

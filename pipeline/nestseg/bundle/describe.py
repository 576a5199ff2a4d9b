"""What the files of a bundle say of it, for people: no torch, and none of its code is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nestseg.bundle import cage, locate, manifest, trust
from nestseg.bundle.info import BundleInfo, missing_weights, read_info
from nestseg_prep.errors import InputError
from nestseg_prep.selection import RULES

WEIGHTS_ENDINGS: Final = (".pt", ".pth", ".safetensors")
_LONGEST: Final = 2000
_READ_BYTES: Final = 2**14
_TEXTS: Final = ("name", "task", "description", "intended_use", "data_source", "authors")
_LICENCES: Final = {
    "Apache-2.0": r"Apache License\s+Version 2\.0",
    "MIT": r"MIT License|Permission is hereby granted, free of charge",
    "BSD-3-Clause": r"BSD 3-Clause|Neither the name of",
    "BSD-2-Clause": r"BSD 2-Clause",
    "GPL-3.0": r"GNU GENERAL PUBLIC LICENSE\s+Version 3",
}
_DATA_TERMS: Final = re.compile(
    r"CC0|CC BY[-A-Z]*(?: \d\.\d)?|NON-?COMMERCIAL|research (?:only|use)"
)


def in_folder(folder: Path) -> list[Path]:
    """The bundles in a folder, or the folder itself if it is one.

    Raises:
        InputError: there is none.
    """
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    if found := [path for path in (folder, *inside) if locate.inference_config(path)]:
        return found
    raise InputError(
        f"{folder}: no bundle in it; give a bundle folder, or one that holds bundle folders"
    )


def summary(bundle: Path) -> dict[str, Any]:
    """What a list tells of a bundle, as plain data of printable text.

    Returns:
        ``name``, ``task``, ``labels`` (value in the mask → name), ``modality``, ``dims``,
        ``licence``, ``data_licence``, ``version``, and ``code``: ``"nestseg"``, ``"trusted"`` or
        ``"caged"``.

    Raises:
        InputError: a file is missing or damaged; the line names it.
    """
    cleaned: dict[str, Any] = _clean(_summary(bundle, read_info(bundle)))
    return cleaned


def describe(bundle: Path) -> dict[str, Any]:
    """Everything that is worth knowing of a bundle, as plain data of printable text.

    Returns:
        As :func:`summary`, and ``title``, ``description``, ``intended_use``, ``data_source``,
        ``authors``, ``channels`` of the input, ``selection`` (rule → what it takes), ``rules_from``
        where these are not the bundle's own, ``network``, ``levels``, ``requires`` (package →
        version), ``figures``, and ``weights`` (file → ``bytes``, ``sha256``).

    Raises:
        InputError: as :func:`summary`.
    """
    info = read_info(bundle)
    metadata, network, selection = info.metadata, info.config.get("network_def"), info.selection
    texts = {key: str(metadata[key]) for key in _TEXTS if metadata.get(key)}
    figures = metadata.get("eval_metrics")
    cleaned: dict[str, Any] = _clean(
        _summary(bundle, info)
        | {"title": texts.pop("name", ""), **texts}
        | {
            "channels": info.input_names,
            "selection": {rule: _rule(getattr(selection, rule)) for rule in RULES},
            "rules_from": selection.origin,
            "network": str(network.get("_target_", "")) if isinstance(network, dict) else "",
            "levels": _levels(network),
            "requires": info.requires,
            "figures": figures if isinstance(figures, dict) else {},
            "weights": dict(_weights(bundle)),
        }
    )
    return cleaned


def _summary(bundle: Path, info: BundleInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "task": str(info.metadata.get("task", "")),
        "labels": info.labels,
        "modality": info.modality,
        "dims": info.input_dims,
        "licence": _licence(bundle),
        "data_licence": _data_licence(bundle),
        "version": info.version,
        "code": _code(bundle),
    }


def _code(bundle: Path) -> str:
    """How far the code of a bundle is trusted."""
    if trust.is_ours(bundle):
        return "nestseg"
    return "caged" if trust.needs_cage(bundle) else "trusted"


def _rule(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _levels(network: Any) -> list[str]:
    """What ``--level`` takes, as far as the config says it: the columns of several heads."""
    if not isinstance(network, dict) or network.get("topology") not in (
        "unet_e",
        "unet+",
        "unet++",
    ):
        return []
    features, heads = network.get("features"), network.get("heads")
    if isinstance(heads, list):
        return [f"L{one}" for one in heads]
    deepest = len(features) if isinstance(features, list) else 0
    if str(network.get("_target_", "")).endswith("GridUNet"):
        deepest -= 1  # a ResNet's first level is its stem, which has no features of its own
    return [f"L{one}" for one in range(1, deepest + 1)]


def _licence(bundle: Path) -> str:
    """The name of the licence, or the first line of its text."""
    text = _beginning(bundle / "LICENSE")
    known = (name for name, pattern in _LICENCES.items() if re.search(pattern, text, re.IGNORECASE))
    return next(known, next((line.strip() for line in text.splitlines() if line.strip()), ""))


def _data_licence(bundle: Path) -> str:
    """The terms that the licence of the data names."""
    found = _DATA_TERMS.findall(_beginning(bundle / "docs" / "data_license.txt"))
    return ", ".join(dict.fromkeys(found))


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_READ_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _weights(bundle: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file of weights; one file that is missing if there is none."""
    found = [p for p in sorted(bundle.glob("models/*")) if p.suffix in WEIGHTS_ENDINGS]
    for path in found:
        size = path.stat().st_size
        yield f"models/{path.name}", {"bytes": size, "sha256": manifest.digest(path)}
    if not found:
        path = Path("models", "model.pt")
        yield path.as_posix(), {"missing": missing_weights(bundle, path)}


def _clean(value: Any) -> Any:
    """The same with printable text of a bounded length: what a bundle says is foreign."""
    if isinstance(value, dict):
        return {_clean(key): _clean(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return cage.printable(value, _LONGEST) if isinstance(value, str) else value

"""The files of a bundle: what kinds there are, and none that runs by itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nestseg.bundle import configs
from nestseg.bundle.findings import Finding, warning

LARGEST = 25 * 2**20
"""Bytes above which the Model Zoo wants an entry in ``large_files.yml``."""

_KNOWN = {
    ".json", ".yaml", ".yml", ".conf", ".md", ".txt", ".rst", ".log", ".csv", ".tsv", ".png",
    ".jpg", ".jpeg", ".gif", ".svg", ".pt", ".onnx", ".safetensors", ".sha256", ".bib",
}  # fmt: skip
_CODE = {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".cmd", ".ps1"}
_CODE |= {".jar", ".whl", ".egg", ".pth", ".ipynb", ".com", ".scr", ".js", ".vbs"}
_PICKLES = {".pkl", ".pickle", ".joblib", ".dill", ".ckpt", ".p", ".npy", ".npz"}
_PROGRAMS = (b"\x7fELF", b"MZ", b"#!", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_NAMED = {"LICENSE", "NOTICE", "README", "CITATION"}
_LEFTOVERS = {"__pycache__", ".git", ".DS_Store", ".ipynb_checkpoints"}


def check(bundle: Path) -> list[Finding]:
    """Look at every file of a bundle, its weights opened by torch's restricted reader."""
    return [finding for path in _walk(bundle) for finding in _one(path, bundle)]


def _walk(bundle: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(bundle, followlinks=False):
        subfolders.sort()
        links = [name for name in subfolders if (Path(folder) / name).is_symlink()]
        yield from (Path(folder) / name for name in sorted(names + links))


def _one(path: Path, bundle: Path) -> Iterator[Finding]:
    name = configs.shown(path, bundle)
    suffix = path.suffix.lower()
    if path.is_symlink():
        yield Finding(name, "", "a link, which may lead anywhere", "put the file itself here")
        return
    if not stat.S_ISREG(path.lstat().st_mode):
        yield Finding(name, "", "is no plain file", "remove it")
        return
    with path.open("rb") as file:
        start = file.read(4)
    if suffix in _CODE or start.startswith(_PROGRAMS):
        yield Finding(
            name, "", "is code, which the audit does not read", "read it, then use --trust"
        )
    elif suffix in _PICKLES or start.startswith(_PICKLE_STARTS):
        yield Finding(
            name, "", "may hold a pickle, which runs when it is read", "keep tensors in .pt"
        )
    elif suffix == ".pt":
        yield from _weights(path, name)
    elif suffix == ".ts":
        yield warning(name, "", "is compiled code, which the audit does not read", "use model.pt")
    elif suffix not in _KNOWN and path.name not in _NAMED:
        kind = "a leftover" if _LEFTOVERS & set(path.parts) else "a file that bundles do not have"
        yield warning(name, "", kind, "remove it")


def _weights(path: Path, name: str) -> Iterator[Finding]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch raises a dozen kinds
        text = str(error)
        if "weights_only" in text.lower() or "Unsupported" in text:
            yield Finding(
                name, "", "holds more than tensors: reading it would run code", "save a state_dict"
            )
        else:
            problem = f"is damaged ({type(error).__name__})"
            yield Finding(name, "", problem, "restore the file")
        return
    if not _is_plain(content):
        yield Finding(name, "", "holds more than tensors and numbers", "save a state_dict")


def _is_plain(item: Any) -> bool:
    if isinstance(item, dict):
        return all(isinstance(k, (str, int)) and _is_plain(v) for k, v in item.items())
    if isinstance(item, (list, tuple)):
        return all(_is_plain(part) for part in item)
    return item is None or isinstance(item, (torch.Tensor, str, int, float, bool))

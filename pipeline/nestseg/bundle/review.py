"""What a bundle would import, call, evaluate and write: notes for people, found without running it.

They are no promise: code can be hidden from any reader. What a bundle may do is held by the cage
(:mod:`nestseg.bundle.cage`). Only what inference reads is looked at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from nestseg.bundle import configs
from nestseg.bundle.findings import Finding, note

_USUAL: Final = {"ignite", "monai", "nestseg", "nestseg_prep", "numpy", "torch"}
_CODE: Final = {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".ts", ".jar", ".whl"}
_PICKLES: Final = {".pkl", ".pickle", ".joblib", ".dill", ".ckpt", ".npy", ".npz"}
_WRITES: Final = re.compile(r"Sav(e|er)|Writ(e|er)|Logger|TensorBoard|MLFlow|Export")
_SHOWN: Final = 20
_IMPORT: Final = re.compile(r"\$\s*(import|from)\s+([\w.]+)")


def review(bundle: Path) -> list[Finding]:
    """Notes on a bundle, from the configs that inference reads and the names of its files.

    Args:
        bundle: a folder; it may be hostile, and nothing of it is executed.
    """
    found: list[Finding] = []
    for path in _read_by_inference(bundle):
        config = configs.read(path, bundle)
        found += config.findings
        found += list(_config_notes(config))
    return found + list(_file_notes(bundle))


def _read_by_inference(bundle: Path) -> list[Path]:
    folder = bundle / "configs"
    named = [folder / f"inference{suffix}" for suffix in configs.SUFFIXES]
    paths = [*named[: 1 if named[0].is_file() else None], folder / "metadata.json"]
    return [path for path in paths if path.is_file()]


def _config_notes(config: configs.Config) -> Iterator[Finding]:
    targets, imports, expressions = set(), set(), []
    for place, item in configs.leaves(config.content):
        if not isinstance(item, str):
            continue
        if configs.last_key(place) == "_target_":
            targets.add(item)
        if match := _IMPORT.match(item):
            imports.add(match[2])
        elif item.startswith("$"):
            expressions.append(item[1:].strip())
            imports |= _imported_by(item[1:])
    unusual = {name for name in targets if "." in name and name.split(".")[0] not in _USUAL}
    yield from _listed(config.name, "imports", imports)
    yield from _listed(config.name, "calls, besides MONAI, PyTorch and nestseg", unusual)
    yield from _listed(config.name, "evaluates", dict.fromkeys(expressions))
    yield from _listed(config.name, "writes by", filter(_WRITES.search, targets))


def _imported_by(expression: str) -> set[str]:
    """Modules that an expression imports by ``__import__``."""
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        tree = ast.parse(re.sub(r"[@%]", "_", expression), mode="eval")
        return {
            str(call.args[0].value)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "__import__"
            and call.args
            and isinstance(call.args[0], ast.Constant)
        }
    return set()


def _file_notes(bundle: Path) -> Iterator[Finding]:
    names = [path.relative_to(bundle).as_posix() for path in sorted(bundle.rglob("*"))]
    kinds: dict[str, Any] = {"code": _CODE, "pickles, which nestseg does not read": _PICKLES}
    for what, suffixes in kinds.items():
        yield from _listed(".", f"holds {what}", (n for n in names if Path(n).suffix in suffixes))
    links = (name for name in names if (bundle / name).is_symlink())
    yield from _listed(".", "holds links", links)


def _listed(file: str, what: str, items: Iterable[str]) -> Iterator[Finding]:
    texts = list(items) if isinstance(items, dict) else sorted(items)
    if texts:
        more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
        yield note(file, "", f"{what}: {', '.join(text[:160] for text in texts[:_SHOWN])}{more}")

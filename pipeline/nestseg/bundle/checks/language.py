"""Slips in the config language, also where no workflow builds them: names, syntax, imports.

Classes are looked up, which imports their modules; expressions are parsed and not evaluated.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai.bundle import ReferenceResolver
from monai.bundle.config_item import ComponentLocator

from nestseg.bundle import configs
from nestseg.bundle.findings import Finding

_GIVEN = {"monai", "torch", "np", "numpy"}  # what MONAI gives every expression


def check(bundle: Path) -> list[Finding]:
    """Look at every config of a bundle."""
    read = configs.read_all(bundle)
    imported = {name for config in read for name in _imported(config.content)}
    components = ComponentLocator().get_component_module_name
    found = []
    for config in read:
        found += config.findings
        for place, item in configs.leaves(config.content):
            if not isinstance(item, str):
                continue
            if configs.last_key(place) == "_target_" and item[:1] not in "@$%":
                problem = "" if components(item) else _missing(item)
            elif item.startswith("$"):
                problem = _slip(item[1:].strip(), imported)
            else:
                continue
            if problem:
                found.append(Finding(config.name, place, problem, "fix the config"))
    return found


def _imported(content: Any) -> Iterator[str]:
    for _, item in configs.leaves(content):
        if isinstance(item, str) and item.startswith("$"):
            node = _parsed(item[1:].strip())
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                yield node.names[0].asname or node.names[0].name.split(".")[0]


def _parsed(text: str) -> ast.stmt | SyntaxError | None:
    """The statement of an expression or import; ``None`` if it is too deep to be parsed."""
    plain = ReferenceResolver.id_matcher.sub("_", ReferenceResolver.normalize_id(text))
    try:
        body = ast.parse(plain).body
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError):
        return None
    return body[0] if len(body) == 1 else SyntaxError("not one expression")


def _slip(text: str, imported: set[str]) -> str:
    node = _parsed(text)
    if isinstance(node, SyntaxError):
        return f"is not a Python expression ({node.msg})"
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        several = "imports several names: MONAI takes the first of a line and drops the others"
        return several if len(node.names) > 1 else ""
    if node is None:
        return ""
    names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
    bound = {one.id for one in names if isinstance(one.ctx, ast.Store)}
    bound |= {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
    known = bound | imported | _GIVEN | set(dir(builtins)) | {"_"}
    unknown = next((one.id for one in names if one.id not in known), None)
    return f"{unknown} is not defined: nothing imports it" if unknown else ""


def _missing(target: str) -> str:
    """Why a class or function cannot be found, with the nearest name; ``""`` if it is there."""
    module, _, name = target.rpartition(".")
    if not module:
        near = difflib.get_close_matches(target, _components(), n=1)
        return f"{target} is not a component of MONAI{_hint(near)}"
    holder: Any = None
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        try:
            holder = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        except Exception:  # noqa: BLE001  whatever a module raises; the workflow's check says it
            return ""
        for part in parts[end:]:
            holder = getattr(holder, part, None)
        break
    if holder is None:
        return ""  # a module of the bundle or of a package that is not installed here
    near = difflib.get_close_matches(name, dir(holder), n=1)
    return "" if hasattr(holder, name) else f"{target} does not exist{_hint(near)}"


def _components() -> list[str]:
    locator = ComponentLocator()
    locator.get_component_module_name("")
    table: dict[str, Any] = locator._components_table or {}
    return list(table)


def _hint(near: list[str]) -> str:
    return f"; did you mean {near[0]}?" if near else ""

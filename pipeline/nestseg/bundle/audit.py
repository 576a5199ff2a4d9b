"""The static audit of a bundle: every file and config read as data, nothing of it executed.

A bundle's configs are a program: MONAI imports and calls whatever ``_target_`` names, evaluates
each string that begins with ``$``, and imports what ``$import`` says as soon as anything is used.
The audit holds all of them against :mod:`nestseg.bundle.allowed`. It is no sandbox: what is allowed
may still fill a disk or take a day, and a network's weights may be anything.
"""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.transforms.io.array import SUPPORTED_READERS

from nestseg.bundle import allowed, configs, expressions, files, names
from nestseg.bundle.configs import Config
from nestseg.bundle.findings import Finding

UNLISTED = "write it with what is listed in docs/bundles.md, or run it with --trust if you do"
_ARITHMETIC = re.compile(r"[0-9pn+\-*/%() ]+|\*")
_STREAMS = {"sys.stdout", "sys.stderr"}


def audit(bundle: Path) -> list[Finding]:
    """Read everything in a bundle's folder and say what is not on the list.

    Args:
        bundle: a folder; it may be hostile.
    """
    found = files.check(bundle)
    read = configs.read_all(bundle)
    found += [finding for config in read for finding in config.findings]
    modules = {place for config in read for place in _imports(config)}
    aliases = _aliases(read)
    for config in read:
        found += [
            Finding(config.name, place, problem, UNLISTED)
            for place, problem in _config_problems(config, aliases, modules)
        ]
    for path in sorted(bundle.rglob("*.conf")):
        if path.is_file() and not path.is_symlink():
            found += logging_findings(path, configs.shown(path, bundle))
    return found


def _imports(config: Config) -> Iterator[str]:
    """Ids of import statements, ``::`` between their parts."""
    for place, item in configs.leaves(config.content):
        if isinstance(item, str) and item.startswith("$") and _is_import(item):
            yield _id(place)


def _aliases(read: list[Config]) -> dict[str, frozenset[str]]:
    """What each name may stand for: imports of all configs together, since configs are merged."""
    aliases = {name: {path} for name, path in allowed.GLOBALS.items()}
    for config in read:
        for _, item in configs.leaves(config.content):
            if isinstance(item, str) and item.startswith("$") and _is_import(item):
                try:
                    name, path = expressions.imported(item)
                except names.RefusedNameError:
                    continue
                aliases.setdefault(name, set()).add(path)
    return {name: frozenset(paths) for name, paths in aliases.items()}


def _config_problems(
    config: Config, aliases: expressions.Aliases, modules: set[str]
) -> Iterator[tuple[str, str]]:
    for place, item in configs.leaves(config.content):
        key = configs.last_key(place)
        for problem in _item_problems(place, key, item, aliases, modules):
            yield place, problem
        if isinstance(item, dict):
            for name, safe in allowed.SAFE_ARGUMENTS.items():
                if item.get(name, safe) is not safe:
                    yield f"{place}#{name}", f"`{name}` may be {str(safe).lower()} only"


def _item_problems(
    place: str, key: str, item: Any, aliases: expressions.Aliases, modules: set[str]
) -> Iterator[str]:
    if key == "_target_":
        yield from _target_problems(item, aliases)
        return
    if key == "_mode_" and item not in ("default", "callable"):
        yield "`_mode_` may be default or callable; anything else starts a debugger"
    elif key == "_debug_":
        yield "`_debug_` starts a debugger"
    elif {key, configs.last_key(place.rpartition("#")[0])} & allowed.CLASS_ARGUMENTS:
        yield from _class_problems(item)
    elif isinstance(item, dict) and "_mode_" in item and isinstance(item.get("_target_"), str):
        if item["_mode_"] != "default":
            yield from _name(partial(names.check_target, item["_target_"], in_expression=True))
    elif "spatial_shape" in place and isinstance(item, str) and not _ARITHMETIC.fullmatch(item):
        yield f"{item[:60]!r} is no arithmetic in n and p"
    if isinstance(item, str):
        yield from _text_problems(place, item, aliases, modules)


def _target_problems(item: Any, aliases: expressions.Aliases) -> Iterator[str]:
    if not isinstance(item, str):
        yield "`_target_` is no text"
    elif item.startswith("$"):
        paths = expressions.dotted_target(item, aliases)
        if not paths:
            yield "`_target_` may not be computed: what it calls could not be read"
        for path in sorted(paths):
            yield from _name(partial(names.check_object, path, in_expression=True))
    elif item[:1] in ("@", "%"):
        yield "`_target_` may not be a reference: what it calls could not be read"
    else:
        yield from _name(partial(names.check_target, item))


def _class_problems(item: Any) -> Iterator[str]:
    """Readers and writers: MONAI imports what their text names."""
    if isinstance(item, str):
        if item[:1] in ("@", "%", "$"):
            yield "may not be computed or a reference: MONAI imports the class that it names"
        elif item.lower() not in SUPPORTED_READERS:
            yield from _name(partial(names.check_target, item))


def _text_problems(
    place: str, text: str, aliases: expressions.Aliases, modules: set[str]
) -> Iterator[str]:
    if text.startswith("%"):
        if ConfigParser.split_path_id(text[1:])[0]:
            yield "a macro may not read a file: it is looked for in the working directory"
        return
    try:
        text = ConfigParser.resolve_relative_ids(_id(place), text)
    except ValueError:
        yield "a relative id that leads out of the config"
        return
    is_module = partial(_may_be_module, modules)
    if not text.startswith("$"):
        for reference in expressions.references(text):
            if is_module(reference):
                yield f"@{reference} is an imported module; use the name it is imported by"
    elif _is_import(text):
        try:
            expressions.imported(text)
        except names.RefusedNameError as problem:
            yield str(problem)
    else:
        yield from expressions.problems(text, aliases, is_module)


def _may_be_module(modules: set[str], reference: str) -> bool:
    """Whether an id is that of an import statement, or holds one.

    A relative id that a macro has carried to another place is judged by its end.
    """
    tail = reference.lstrip(":")
    return any(
        module == tail
        or module.startswith(f"{tail}::" if tail else "")
        or (reference != tail and (module.endswith(f"::{tail}") or f"::{tail}::" in module))
        for module in modules
    )


def _name(check: Callable[[], None]) -> Iterator[str]:
    try:
        check()
    except names.RefusedNameError as problem:
        yield str(problem)


def _is_import(text: str) -> bool:
    try:
        return expressions.is_import(ReferenceResolver.normalize_id(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _id(place: str) -> str:
    return place.replace("#", "::").removeprefix("+")


def logging_findings(path: Path, name: str) -> list[Finding]:
    """What a logging configuration would evaluate beyond literals.

    ``logging.config`` evaluates ``class`` and ``args`` of handlers and imports the ``class`` of
    formatters.
    """
    parser = configparser.ConfigParser()
    found = []

    def add(place: str, problem: str) -> None:
        found.append(Finding(name, place, problem, "use a StreamHandler with literals"))

    try:
        parser.read_string(path.read_text())
        sections = {section: dict(parser.items(section, raw=True)) for section in parser.sections()}
    except (configparser.Error, UnicodeDecodeError) as error:
        add("", f"is no logging configuration ({type(error).__name__})")
        return found
    for section, values in sections.items():
        kind = values.get("class")
        if section.startswith("handler_") and kind not in allowed.LOGGING_CLASSES:
            add(f"{section}#class", f"{kind} {names.NOT_LISTED}")
        if section.startswith("formatter_") and kind not in (None, "logging.Formatter"):
            add(f"{section}#class", f"{kind} {names.NOT_LISTED}")
        for key in ("args", "kwargs"):
            if key in values and not _is_literal(values[key]):
                add(f"{section}#{key}", "is evaluated, and is no literal")
    return found


def _is_literal(text: str) -> bool:
    for stream in _STREAMS:
        text = text.replace(stream, "None")
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    return "%" not in text

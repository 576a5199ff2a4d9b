"""Expressions of bundle configs (``$…``), judged from their syntax; none is evaluated.

Every node, name and attribute must be on the list. What an object is cannot be known, so an
attribute that would be dangerous on any object is refused on all of them, and a module may only be
the root of a name, never a value: otherwise it could travel to where its members are not seen.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping
from functools import partial

from monai.bundle import ConfigExpression, ReferenceResolver

from nestseg.bundle import allowed, names

LONGEST = 4000
_REFS = "__local_refs"  # MONAI's name for the dictionary that `@id` becomes in an expression

_NODES = (
    ast.Expression, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Call,
    ast.keyword, ast.Starred, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.List,
    ast.Tuple, ast.Dict, ast.Set, ast.Lambda, ast.arguments, ast.arg, ast.ListComp, ast.SetComp,
    ast.DictComp, ast.GeneratorExp, ast.comprehension, ast.JoinedStr, ast.FormattedValue,
    ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

Aliases = Mapping[str, frozenset[str]]
"""Name in an expression → the dotted names that it may stand for."""


class _Any(dict[str, object]):
    """Every reference is defined: whether it is, another check says."""

    def __contains__(self, key: object) -> bool:
        return True


def evaluated_text(text: str) -> str:
    """What MONAI evaluates for a string ``$…``: its own substitution of ``@id``, ``$`` cut off."""
    return str(ReferenceResolver.update_refs_pattern(text, _Any()))[1:]


def references(text: str) -> set[str]:
    """The ids that a string refers to, ``::`` between their parts."""
    return set(ReferenceResolver.match_refs_pattern(text))


def is_import(text: str) -> bool:
    """Whether MONAI takes a string for an import statement.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python.
    """
    return bool(ConfigExpression.is_import_statement(text))


def imported(text: str) -> tuple[str, str]:
    """Alias and dotted name of an import statement ``$import a as b``.

    Raises:
        RefusedNameError: it imports several names, or the name is refused.
    """
    body = ast.parse(evaluated_text(text)).body
    node = body[0]
    if len(body) > 1 or not isinstance(node, (ast.Import, ast.ImportFrom)) or len(node.names) > 1:
        raise names.RefusedNameError("MONAI imports one name a line and drops the others")
    item = node.names[0]
    path = item.name
    if isinstance(node, ast.ImportFrom):
        if node.level or node.module is None:
            raise names.RefusedNameError("an import relative to nowhere")
        path = f"{node.module}.{item.name}"
    names.check_import(path)
    return item.asname or item.name, path


def problems(text: str, aliases: Aliases, is_module: Callable[[str], bool]) -> list[str]:
    """What is wrong with an expression.

    Args:
        text: as in the config, with its ``$``.
        aliases: what the config imports and MONAI defines.
        is_module: whether the item of an id holds, or may hold, an imported module.

    Returns:
        One phrase a problem.
    """
    if len(text) > LONGEST:
        return [f"an expression of {len(text)} characters, which nobody can read"]
    try:
        tree = ast.parse(evaluated_text(text), mode="eval")
        auditor = _Auditor(aliases, is_module)
        auditor.visit(tree.body, frozenset())
    except SyntaxError as error:
        return [f"no Python expression ({error.msg})"]
    except (ValueError, RecursionError, MemoryError):
        return ["no Python expression that can be read"]
    return list(dict.fromkeys(auditor.found))


def dotted_target(text: str, aliases: Aliases) -> set[str]:
    """The objects that ``$a.b.c`` in a ``_target_`` may name; nothing for any other expression.

    A target that is computed may be a text, which MONAI would import and call.
    """
    try:
        chain = _chain(ast.parse(evaluated_text(text), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    if not chain:
        return set()
    root, *rest = chain
    return {".".join([path, *rest]) for path in aliases.get(root, ())}


class _Auditor:
    """A walk over the syntax, with the names that lambdas and comprehensions bind on the way."""

    def __init__(self, aliases: Aliases, is_module: Callable[[str], bool]) -> None:
        self.found: list[str] = []
        self._aliases = aliases
        self._is_module = is_module

    def visit(self, node: ast.AST, bound: frozenset[str]) -> None:
        if not isinstance(node, _NODES):
            self.found.append(f"`{type(node).__name__}` may not stand in an expression")
        elif isinstance(node, ast.Attribute):
            self._attribute(node, bound)
        elif isinstance(node, ast.Name):
            self._name(node.id, bound)
        elif isinstance(node, ast.Subscript):
            self._subscript(node, bound)
        elif isinstance(node, ast.Lambda):
            self._lambda(node, bound)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node, bound)
        elif self._is_switch(node, bound):
            return
        else:
            if isinstance(node, ast.Call):
                self._call(node)
            self._children(node, bound)

    def _children(self, node: ast.AST, bound: frozenset[str]) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child, bound)

    def _check(self, check: Callable[[], None]) -> None:
        try:
            check()
        except names.RefusedNameError as problem:
            self.found.append(str(problem))

    def _paths(self, root: str, bound: frozenset[str]) -> frozenset[str]:
        return frozenset() if root in bound else self._aliases.get(root, frozenset())

    def _attribute(self, node: ast.Attribute, bound: frozenset[str]) -> None:
        chain = _chain(node)
        if chain and (paths := self._paths(chain[0], bound)):
            for path in sorted(paths):
                whole = ".".join([path, *chain[1:]])
                self._check(partial(names.check_object, whole, in_expression=True))
            return
        self._check(partial(names.check_attribute, node.attr))
        self.visit(node.value, bound)

    def _name(self, name: str, bound: frozenset[str]) -> None:
        if name in bound:
            return
        if paths := self._paths(name, bound):
            for path in sorted(paths):
                self._check(partial(names.check_object, path, shown=name, in_expression=True))
        elif name not in allowed.BUILTINS:
            known = hasattr(builtins, name) or name.startswith("_")
            why = names.NOT_LISTED if known else "is not defined: nothing imports it"
            self.found.append(f"{name} {why}")

    def _subscript(self, node: ast.Subscript, bound: frozenset[str]) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == _REFS:
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            if not isinstance(key, str):
                self.found.append("references are written `@id`")
            elif self._is_module(key):
                self.found.append(f"@{key} is an imported module; use the name it is imported by")
            return
        self._children(node, bound)

    def _call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            if node.func.attr == "replace" and len(node.args) + len(node.keywords) == 1:
                self.found.append(
                    f"`.replace` with one argument {names.NOT_LISTED}: it moves files"
                )
            if node.func.attr == "eval" and node.args + node.keywords:
                self.found.append(f"`.eval` with arguments {names.NOT_LISTED}")
        for keyword in node.keywords:
            name = keyword.arg or ""
            if name in allowed.CLASS_ARGUMENTS:
                self.found.append(f"`{name}=` belongs into a `_target_`, where it can be read")
            if name in allowed.SAFE_ARGUMENTS:
                safe = allowed.SAFE_ARGUMENTS[name]
                if not (isinstance(keyword.value, ast.Constant) and keyword.value.value is safe):
                    self.found.append(f"`{name}` may be {safe} only")

    def _is_switch(self, node: ast.AST, bound: frozenset[str]) -> bool:
        """Whether a node is ``setattr(torch.backends.cudnn, 'benchmark', True)``."""
        if not isinstance(node, ast.Call) or node.keywords or len(node.args) != 3:
            return False
        if not isinstance(node.func, ast.Name) or node.func.id != "setattr" or "setattr" in bound:
            return False
        root, *rest = _chain(node.args[0]) or [""]
        switch, value = node.args[1:]
        return (
            self._paths(root, bound) == {"torch"}
            and ".".join(rest) in allowed.SWITCHES
            and isinstance(switch, ast.Constant)
            and switch.value in allowed.SWITCHES[".".join(rest)]
            and isinstance(value, ast.Constant)
        )

    def _lambda(self, node: ast.Lambda, bound: frozenset[str]) -> None:
        arguments = node.args
        for default in [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]:
            self.visit(default, bound)
        listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        listed += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
        self.visit(node.body, bound | self._bind([a.arg for a in listed]))

    def _comprehension(self, node: ast.AST, bound: frozenset[str]) -> None:
        for generator in node.generators:  # type: ignore[attr-defined]
            self.visit(generator.iter, bound)
            bound |= self._bind(self._targets(generator.target))
            for condition in generator.ifs:
                self.visit(condition, bound)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]  # type: ignore[attr-defined]
        for part in parts:
            self.visit(part, bound)

    def _targets(self, node: ast.AST) -> list[str]:
        if isinstance(node, ast.Name):
            return [node.id]
        if isinstance(node, (ast.Tuple, ast.List)):
            return [name for part in node.elts for name in self._targets(part)]
        if isinstance(node, ast.Starred):
            return self._targets(node.value)
        self.found.append("a loop may only bind plain names")
        return []

    def _bind(self, bound: list[str]) -> frozenset[str]:
        for name in bound:
            if name.startswith("__"):
                self.found.append(f"{name} {names.NOT_LISTED}")
        return frozenset(bound)


def _chain(node: ast.AST) -> list[str]:
    """``a.b.c`` → ``["a", "b", "c"]``; nothing if the root is no plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []

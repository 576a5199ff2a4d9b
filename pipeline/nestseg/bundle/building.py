"""Items of a config built one by one, so that what fails has an id and its innermost cause."""

from __future__ import annotations

import difflib
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from nestseg_prep.errors import BundleError


class BuildError(BundleError):
    """An item of a config that cannot be built."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(why)
        self.place = place.replace("::", "#")
        self.why = why


def build(parser: ConfigParser, place: str) -> Any:
    """Build an item after everything that it refers to.

    Args:
        parser: holds the config, parsed.
        place: id of the item.

    Raises:
        BuildError: of the first item that fails, the innermost.
    """
    return _build(parser.ref_resolver, ReferenceResolver.normalize_id(place), ())


def _build(resolver: ReferenceResolver, place: str, above: tuple[str, ...]) -> Any:
    item = resolver.get_item(place)
    if item is None:
        near = difflib.get_close_matches(place, resolver.items, n=1)
        hint = f"; did you mean @{near[0]}?".replace("::", "#") if near else ""
        raise BuildError(above[-1] if above else place, f"@{place} is not defined{hint}")
    if place in resolver.resolved_content:
        return resolver.resolved_content[place]
    if place in above:
        raise BuildError(place, f"refers to itself through {' → '.join(above[1:]) or place}")
    for reference in resolver.find_refs_in_config(config=item.config, id=place):
        _build(resolver, reference, (*above, place))
    try:
        return resolver.get_resolved_content(place)
    except Exception as error:
        raise BuildError(place, first_line(root_cause(error))) from error


def root_cause(error: BaseException) -> BaseException:
    """The innermost error: MONAI wraps the one that helps in several that do not."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """An error as one line with its kind."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}".rstrip(": ")

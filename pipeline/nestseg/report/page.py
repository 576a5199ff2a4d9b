"""The page: one HTML file that needs nothing else, and that the browser lets connect nowhere."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from nestseg.bundle import locate
from nestseg.report.pictures import Pictures

_STATIC: Final = Path(__file__).with_name("static")
VIEWER: Final = "niivue.umd.js"
SCRIPTS = ("source.js", "strip.js", "rows.js", "viewer.js", "detail.js", "main.js")
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("nestseg.report", "static"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}


def page(report: dict[str, Any], pictures: Pictures) -> str:
    """The report as one file: data, pictures and viewer are inside.

    Args:
        report: as :func:`nestseg.report.table.table` makes it.
        pictures: what to show of its cases.
    """
    return _render(report, pictures, "'none'")


def live_page(report: dict[str, Any]) -> str:
    """The report as a page that asks its own server for the newest rows and for pictures."""
    return _render(report, Pictures(), "'self'", live=True)


def _render(
    report: dict[str, Any], pictures: Pictures, connections: str, *, live: bool = False
) -> str:
    scripts = [*_viewer(), "\n".join(static(name) for name in SCRIPTS)]
    style = static("report.css")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(_hash(script) for script in scripts)}",
            f"style-src {_hash(style)}",
            f"img-src data:{' ' + connections if live else ''}",
            f"connect-src {connections}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    data = report | {"live": live, "left_out": pictures.left_out}
    return _ENVIRONMENT.get_template("page.html").render(
        policy=policy,
        style=Markup(style),  # noqa: S704  our own files
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        data=data,
        licence=static("niivue.LICENSE.txt") if len(scripts) > 1 else "",
        pictures=pictures,
    )


def _viewer() -> list[str]:
    """NiiVue, if it is here: of the wheels, ``nestseg-bundles`` holds it, since it is large."""
    found = [folder / VIEWER for folder in (_STATIC, locate.data_package()) if folder]
    return next(([_text(path)] for path in found if path.is_file()), [])


def static(name: str) -> str:
    """The text of a file that is part of the page."""
    return _text(_STATIC / name)


@cache
def _text(path: Path) -> str:
    name, text = path.name, path.read_text(encoding="utf-8")
    if "</script" in text or "\r" in text or "<!--" in text:
        raise ValueError(f"{name}: would end its own element, or be changed by the HTML parser")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

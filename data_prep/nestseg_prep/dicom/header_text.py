"""A header as text and back, for a cache: every number comes back as it was."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from nestseg_prep.dicom.headers import Frame, Header
from nestseg_prep.dicom.lengths import Pixels

# Raise it when a header is read from the same file in another way.
_VERSION: Final = 3
_NAMES: Final = [one.name for one in fields(Header) if one.name not in ("path", "frames", "pixels")]
_FRAME_NAMES: Final = [one.name for one in fields(Frame)]


def dump(header: Header) -> str:
    """The header without its path."""
    return json.dumps(
        [
            _VERSION,
            header.pixels.value,
            [getattr(header, name) for name in _NAMES],
            [[_plain(getattr(frame, name)) for name in _FRAME_NAMES] for frame in header.frames],
        ]
    )


def load(text: str, path: Path) -> Header:
    """The header of the file at ``path``.

    Raises:
        ValueError: the text is of another version of the program.
        TypeError: likewise.
    """
    version, pixels, values, frames = json.loads(text)
    if version != _VERSION:
        msg = f"a header of version {version}"
        raise ValueError(msg)
    known: dict[str, Any] = {
        name: _tuple(value) for name, value in zip(_NAMES, values, strict=True)
    }
    return Header(
        path=path,
        pixels=Pixels(pixels),
        frames=tuple(
            Frame(**{name: _tuple(v) for name, v in zip(_FRAME_NAMES, frame, strict=True)})
            for frame in frames
        ),
        **known,
    )


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""Bundles opened in this process, whatever they hold, and what is inside of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.bundle.in_process import InProcess
from nestseg.bundle.model import Model
from nestseg.bundle.options import SegmentOptions


def opened(folder: Path, options: SegmentOptions | None = None) -> Bundle:
    return load_bundle(folder, options, caged=False)


def models(bundle: Bundle) -> tuple[Model, ...]:
    assert isinstance(bundle._predictor, InProcess)
    return bundle._predictor.models


def changed(bundle: Bundle, **changes: Any) -> Bundle:
    """The same with another network, say, in the first of its models."""
    first, *members = models(bundle)
    return Bundle(InProcess((replace(first, **changes), *members)), bundle.options)

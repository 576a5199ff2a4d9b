"""What a bundle says of itself, read as data: no torch, and none of its code is run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nestseg.bundle import manifest
from nestseg.bundle.options import SegmentOptions
from nestseg.bundle.selection import read_selection
from nestseg.outputs.plausibility import Expected, expectations, uncertainty_limit
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection

WEIGHTS: Final = Path("models", "model.pt")


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """A bundle's name, labels and rules.

    Attributes:
        name: the folder's name.
        version: of the bundle, from its metadata.
        weights_sha256: of ``models/model.pt``.
        labels: value in the mask → name, without the background.
        segment_codes: what labels mean in codes, where the metadata say so
            (``nestseg.outputs.dicom.terminology``).
        selection: which series it takes.
        expected: label value → what its structure looks like, where the metadata say so.
        uncertainty_at_most: the largest uncertainty of its validation cases, where it was measured.
    """

    name: str
    version: str
    weights_sha256: str
    labels: dict[int, str]
    segment_codes: dict[str, Any]
    selection: Selection
    expected: dict[int, Expected] = field(default_factory=dict)
    uncertainty_at_most: float | None = None

    def uncertainty_limit(self, options: SegmentOptions) -> float | None:
        """The largest uncertainty of its validation cases, if it was measured in the same way.

        Mirrored tiles, levels, ensembles and smaller tiles have uncertainties of other sizes.
        """
        same = (options.tta, options.level, options.ensemble, options.gentle)
        return self.uncertainty_at_most if same == ("none", None, (), False) else None


def read_info(bundle: Path) -> BundleInfo:
    """Read the metadata, the rules for inputs, and the digest of the weights.

    Raises:
        InputError: a file is missing or damaged; the line names it.
    """
    try:
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
        outputs = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        labels = {int(value): str(label) for value, label in outputs.items() if int(value)}
        version = str(metadata["version"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{bundle.name}: metadata.json cannot be read ({type(error).__name__}); restore it"
        ) from error
    try:
        weights = manifest.digest(bundle / WEIGHTS)
    except OSError:
        raise InputError(f"{bundle.name}: {WEIGHTS} is missing; train the bundle first") from None
    return BundleInfo(
        name=bundle.name,
        version=version,
        weights_sha256=weights,
        labels=labels,
        segment_codes=dict(metadata.get("segment_codes", {})),
        selection=read_selection(bundle),
        expected=expectations(metadata),
        uncertainty_at_most=uncertainty_limit(metadata),
    )

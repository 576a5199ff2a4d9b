"""Which series of a folder a bundle takes. The rule is data in the bundle's config, never code."""

from __future__ import annotations

from collections.abc import Sequence

from nestseg_prep.dicom.references import SeriesRef


class Selection:
    """A rule for the series that fit a bundle.

    Args:
        modalities: DICOM modalities that fit. A NIfTI file has none: its extent decides.
        extent_mm: smallest and largest field of view along each axis, in mm; ``None`` for any. A
            network that was trained on crops answers nonsense on a whole head.
        pictures: PNG, TIFF and JPEG fit.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        extent_mm: tuple[float, float] | None = None,
        pictures: bool = False,
    ) -> None:
        self.modalities = tuple(modalities)
        self.extent_mm = extent_mm
        self.pictures = pictures

    def why_not(self, ref: SeriesRef) -> str | None:
        """The reason why a series does not fit, in one sentence; ``None`` if it does."""
        if ref.kind == "picture" and not self.pictures:
            return "a picture; the bundle takes volumes"
        if ref.modality is not None and ref.modality not in self.modalities:
            return f"modality {ref.modality}; the bundle takes {', '.join(self.modalities)}"
        if self.extent_mm is not None and ref.shape is not None and ref.spacing is not None:
            low, high = self.extent_mm
            extent = [n * s for n, s in zip(ref.shape, ref.spacing, strict=True)]
            if not all(low <= mm <= high for mm in extent):
                size = "×".join(f"{mm:.0f}" for mm in extent)
                return f"field of view {size} mm; the bundle takes {low:g} to {high:g} mm each way"
        return None

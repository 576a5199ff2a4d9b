"""What made a result: the part of its provenance that every DICOM object carries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from pydicom.uid import UID

if TYPE_CHECKING:
    from highdicom.base_content import ContributingEquipment

MANUFACTURER: Final = "nestseg"
REVIEW: Final = "Automatic segmentation. Not reviewed by a person."
LONG_STRING: Final = 64
"""Characters of a text of the representation LO."""


@dataclass(frozen=True)
class Algorithm:
    """A bundle.

    Attributes:
        name: of the bundle.
        bundle_version: from its metadata.
        weights_sha256: 64 hexadecimal digits.
        codes: what its labels mean, where it says so itself (``terminology.concept_of``).
    """

    name: str
    bundle_version: str
    weights_sha256: str
    codes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        """Name for tags of 64 characters."""
        return self.name[:LONG_STRING]

    @property
    def version(self) -> str:
        """Version for tags of 64 characters."""
        return self.bundle_version[:LONG_STRING]

    def described(self, part: str, what: str = "") -> str:
        """SeriesDescription of a result.

        Args:
            part: which of the volumes of a series it lies on; ``""`` for a whole series.
            what: it holds, if not a mask.
        """
        made_by = f"{self.name} {self.version} {what}".rstrip()
        # The part tells results apart, so it is not what is cut off.
        room = max(LONG_STRING - len(part) - 2, 0)
        return f"{made_by[:room]}: {part}"[:LONG_STRING] if part else made_by[:LONG_STRING]

    @property
    def software_versions(self) -> Any:
        """Names and versions of everything that had a hand in the result, a list of texts.

        highdicom's annotations allow a tuple of one only; pydicom writes no tuples.
        """
        libraries = [f"{name} {version(name)}" for name in ("nestseg", "torch", "monai")]
        return [f"{self.name} {self.bundle_version}"[:LONG_STRING], *libraries]

    @property
    def equipment(self) -> ContributingEquipment:
        """The bundle as processing equipment; the digest of its weights is its serial number."""
        # Imported here: highdicom costs half a second, and most runs write no DICOM.
        from highdicom.base_content import ContributingEquipment  # noqa: PLC0415
        from pydicom.sr.codedict import codes  # noqa: PLC0415

        return ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=codes.DCM.ProcessingEquipment,
            manufacturer_model_name=self.model_name,
            software_versions=self.software_versions,
            device_serial_number=self.weights_sha256,
            contribution_description=REVIEW,
        )


def uid_from(*parts: str) -> UID:
    """A UID that depends on nothing but its parts (PS3.5 B.2)."""
    digest = hashlib.sha256("/".join(parts).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")

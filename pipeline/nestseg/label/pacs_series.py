"""What a DICOMweb server has: series to label, and the segmentation objects that refer to them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from nestseg.pacs.addresses import Web
from nestseg.pacs.retrieve import Found, Query, fetch, find
from nestseg.pacs.send import dicom_files, web_client
from nestseg_prep.errors import InputError
from nestseg_prep.images import series_at

_FRESH_SECONDS: Final = 10.0
"""MONAI Label lists the datastore with every request."""


class PacsSeries:
    """Lists of a server, a few seconds old at most.

    Args:
        web: the server.
        modalities: which series are images.
    """

    def __init__(self, web: Web, modalities: Sequence[str]) -> None:
        self._web, self._modalities = web, tuple(modalities)
        self._refers: dict[str, tuple[str, str]] = {}  # SEG series → image series, time; for good
        self._lists: dict[str, tuple[float, list[Found]]] = {}

    def images(self) -> list[str]:
        """SeriesInstanceUIDs of the images.

        Raises:
            InputError: the server does not answer.
        """
        return sorted({one.series for kind in self._modalities for one in self._of(kind)})

    def segs(self) -> dict[str, list[Found]]:
        """Image → the segmentation objects that refer to it, the newest last."""
        images = set(self.images())
        found: dict[str, list[Found]] = {}
        for one in sorted(self._of("SEG"), key=lambda seg: self._reference(seg)[1]):
            image, _ = self._reference(one)
            if image in images:
                found.setdefault(image, []).append(one)
        return found

    def newest_seg(self, image: str) -> Found:
        """The newest segmentation object of an image.

        Raises:
            InputError: there is none.
        """
        try:
            return self.segs()[image][-1]
        except KeyError:
            raise InputError("the image has no label on the server") from None

    def forget(self) -> None:
        """Ask the server again: something was stored."""
        self._lists.clear()

    def fetch(self, image: str, folder: Path) -> None:
        """Fetch a series whole and make sure that it can be read, or leave nothing.

        Raises:
            InputError: there is no such series, it is refused, or the server does not answer.
        """
        found = [one for one in find(self._web, Query(series=image)) if one.series == image]
        if not found:
            raise InputError("no such image on the server")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
            fetch(self._web, found, Path(temporary))
            (fetched,) = Path(temporary).iterdir()
            series_at(fetched)
            if not folder.is_dir():
                fetched.rename(folder)

    def fetch_seg(self, seg: Found, into: Path) -> Path:
        """Fetch a segmentation object; of several in one series, the last."""
        fetch(self._web, [seg], into)
        return dicom_files([into])[-1]

    def _of(self, modality: str) -> list[Found]:
        asked, found = self._lists.get(modality, (float("-inf"), []))
        if time.monotonic() - asked > _FRESH_SECONDS:
            found = find(self._web, Query(match={"Modality": modality}))
            self._lists[modality] = (time.monotonic(), found)
        return found

    def _reference(self, seg: Found) -> tuple[str, str]:
        """The series that a segmentation object refers to, and when it was made."""
        if seg.series not in self._refers:
            client: Any = web_client(self._web)
            try:
                metadata = client.retrieve_series_metadata(seg.study, seg.series)
                header = Dataset.from_json(metadata[-1], lambda *_: None)  # pixels stay there
            except Exception as error:  # noqa: BLE001  whatever a server answers
                kind = type(error).__name__
                raise InputError(f"{self._web.url}: no metadata of a SEG ({kind})") from None
            references = header.get("ReferencedSeriesSequence") or [Dataset()]
            image = str(references[0].get("SeriesInstanceUID", ""))
            made = f"{header.get('ContentDate', '')}{header.get('ContentTime', '')}"
            self._refers[seg.series] = (image, made)
        return self._refers[seg.series]

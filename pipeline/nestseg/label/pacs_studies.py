"""A DICOMweb server as MONAI Label's datastore: read and written by nestseg."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from nestseg.label import names
from nestseg.label.images import read_labels, write_labels
from nestseg.label.pacs_series import PacsSeries
from nestseg.label.segs import read_label, write_seg
from nestseg.label.studies import check_tag
from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.pacs.addresses import Web
from nestseg.pacs.send import send, web_client
from nestseg_prep.errors import InputError
from nestseg_prep.images import series_at
from nestseg_prep.nifti import write_nifti
from nestseg_prep.nifti_header import LABELS
from nestseg_prep.on_grid import labels_on
from nestseg_prep.reading import read_volume

_UID: Final = re.compile(r"[0-9.]{1,64}")
_LOG: Final = logging.getLogger(__name__)


class PacsStudies(DICOMWebDatastore):
    """Series of a DICOMweb server; their labels are segmentation objects there.

    What MONAI Label's own datastore does with labels loses classes and places: names are matched
    by position, empty labels fail, and frames come back reversed. Every step on voxels is replaced.

    Args:
        web: the server.
        modalities: which series are images.
        images: folder for what is fetched: ``UID/`` with the DICOM files, ``UID.nii.gz``.
        classes: of each bundle, number → name.
        algorithms: name of a model → what it is, as a SEG says it.
        watch: whether changes by other processes are noticed.

    Attributes:
        last_result: file of the last result of a model, and what made it.
    """

    def __init__(
        self,
        web: Web,
        modalities: Sequence[str],
        images: Path,
        classes: Sequence[names.Classes],
        algorithms: Callable[[str], Algorithm | None],
        *,
        watch: bool,
    ) -> None:
        self._client, self._web = web_client(web), web
        self._classes, self._algorithms = classes, algorithms
        self._series = PacsSeries(web, modalities)
        self.last_result: tuple[str, Algorithm | None] = ("", None)
        LocalDatastore.__init__(self, datastore_path=str(images), auto_reload=watch)

    def roots(self) -> Iterable[Path]:
        """Where images lie that a client may name by their paths."""
        return [Path(self._datastore_path)]

    def source(self, image_id: str) -> Path:
        """The folder with the DICOM files of a series, fetched if need be.

        Raises:
            InputError: the server has no such series, or it does not come whole.
        """
        if not _UID.fullmatch(image_id):
            raise InputError("no such image: an id of this server's images is a SeriesInstanceUID")
        folder = Path(self._datastore_path) / image_id
        if not folder.is_dir():
            self._series.fetch(image_id, folder)
        return folder

    def get_image_uri(self, image_id: str) -> str:
        """The series as NIfTI, for clients."""
        folder = self.source(image_id)
        path = folder.with_name(f"{image_id}.nii.gz")
        if not path.is_file():
            write_nifti(read_volume(series_at(folder)), path)
        if image_id not in self._datastore.objects:
            self.refresh()
        return str(path)

    def list_images(self) -> list[str]:
        """SeriesInstanceUIDs, also of series that came after the start."""
        return self._series.images()

    def get_labeled_images(self, label_tag: Any = None, labels: Any = None) -> list[str]:
        """Images that a segmentation object on the server refers to."""
        return sorted(self._series.segs())

    def get_unlabeled_images(self, label_tag: Any = None, labels: Any = None) -> list[str]:
        """The others."""
        labelled = self._series.segs()
        return [image for image in self.list_images() if image not in labelled]

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """The label as NIfTI; a final one is read from the server's newest object."""
        check_tag(label_tag)
        if label_tag == DefaultLabelTag.FINAL:
            self._read_final(label_id)
        uri: str = LocalDatastore.get_label_uri(self, label_id, label_tag)
        return uri

    def save_label(
        self,
        image_id: str,
        label_filename: str,
        label_tag: str,
        label_info: dict[str, Any],
        label_id: str = "",
    ) -> str:
        """Keep a label; a final one becomes a segmentation object on the server.

        Raises:
            InputError: the label does not lie on the series' voxels, or the server refuses it.
        """
        check_tag(label_tag)
        folder = self.source(image_id)
        self.get_image_uri(image_id)
        image = read_volume(series_at(folder))
        given = names.names_in(label_info.get("label_info"))
        labels, every = names.renumbered(read_labels(Path(label_filename)), given, self._classes)
        labels = labels_on(labels, image, exact=True)
        if label_tag == DefaultLabelTag.FINAL:
            model = self._algorithms(_model_in(label_info.get("label_info")))
            seg = write_seg(labels, folder, every, model, by_a_person=True)
            try:
                (sent,) = send([seg], self._web)
            finally:
                seg.unlink()
            if sent.error:
                raise InputError(f"{self._web.url}: the label was not stored: {sent.error}")
            self._series.forget()
        file = write_labels(labels, ".nii.gz")
        saved: str = LocalDatastore.save_label(self, image_id, str(file), label_tag, label_info)
        file.unlink()
        return saved

    def dicom_seg(self, series_dir: str, label: str, label_info: Any) -> str:
        """A result of a model as a segmentation object, where MONAI Label would call dcmqi."""
        folder = Path(series_dir)
        image = read_volume(series_at(folder))
        given = names.names_in(label_info)
        labels, every = names.renumbered(read_labels(Path(label)), given, self._classes)
        on_image = labels_on(labels, image, exact=True)
        file, algorithm = self.last_result
        return str(write_seg(on_image, folder, every, algorithm if file == label else None))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Images with a label as files for clients."""
        return [
            {"image": self.get_image_uri(one["id"]), "label": one["label"]}
            for one in self.labelled()
        ]

    def labelled(self) -> list[dict[str, str]]:
        """Images with a label, to learn from: ``id``, ``image``, a DICOM folder, ``label``.

        A segmentation object that cannot be read stops none of the others.
        """
        found = []
        for image_id in self.get_labeled_images():
            try:
                image, label = self.source(image_id), self._read_final(image_id)
            except InputError as error:
                _LOG.warning("a label is left out: %s", error)
                continue
            found.append({"image": str(image), "label": str(label), "id": image_id})
        return found

    def _read_final(self, image_id: str) -> Path:
        """The newest object of a series as a file beside the others of its tag."""
        folder = self.source(image_id)
        self.get_image_uri(image_id)
        newest = self._series.newest_seg(image_id)
        tag = DefaultLabelTag.FINAL
        path = Path(self._datastore.label_path(tag)) / f"{image_id}.nii.gz"
        marked = LocalDatastore.get_label_info(self, image_id, tag).get("seg")
        if path.is_file() and marked == newest.series:
            return path
        with tempfile.TemporaryDirectory() as temporary:
            objects = self._series.fetch_seg(newest, Path(temporary))
            labels = read_label(objects, folder, self._classes)
            file = Path(temporary) / "label.nii.gz"
            write_nifti(labels, file, mark=LABELS)
            LocalDatastore.save_label(self, image_id, str(file), tag, {"seg": newest.series})
        return path


def _model_in(label_info: Any) -> str:
    """The model that a client says a label comes from, ``""`` if it says none."""
    return next((str(item["model_name"]) for item in label_info or [] if "model_name" in item), "")

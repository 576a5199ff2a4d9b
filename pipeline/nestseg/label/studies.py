"""A folder of studies as MONAI Label's datastore: files, and folders of DICOM files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from nestseg.label import names, places
from nestseg.label.images import read_labels, write_labels
from nestseg_prep.errors import InputError
from nestseg_prep.images import ending, read_image, series_at
from nestseg_prep.nifti import write_nifti
from nestseg_prep.on_grid import labels_on
from nestseg_prep.picture import SUFFIXES as PICTURES
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

ENDINGS: Final = ("*.nii.gz", "*.nii", "*.nrrd", "*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff")
_TAGS: Final = frozenset(tag.value for tag in DefaultLabelTag)
_LOOKED_AT: Final = 20
_MAGIC: Final = slice(128, 132)


def is_dicom_folder(folder: Path) -> bool:
    """Whether one of the first files of a folder is DICOM."""
    files = sorted(path for path in folder.iterdir() if path.is_file())[:_LOOKED_AT]
    for path in files:
        with path.open("rb") as file:
            if file.read(_MAGIC.stop)[_MAGIC] == b"DICM":
                return True
    return False


class Studies(LocalDatastore):
    """Images of a folder with their labels in ``labels/final`` and ``labels/original`` below it.

    Args:
        folder: of the studies. A folder in it that holds DICOM files is one image.
        images: where DICOM images are kept as NIfTI for clients.
        classes: of each bundle, number → name.
        watch: whether files that come later are noticed.
    """

    def __init__(
        self, folder: Path, images: Path, classes: Sequence[names.Classes], *, watch: bool
    ) -> None:
        self._images, self._classes = images, classes
        super().__init__(str(folder), extensions=ENDINGS, auto_reload=watch)

    def roots(self) -> Iterable[Path]:
        """Where images lie that a client may name by their paths."""
        return [Path(self._datastore_path), self._images]

    def source(self, image_id: str) -> Path:
        """The file, or the folder of DICOM files, of an image.

        Raises:
            InputError: there is no such image.
        """
        path = super().get_image_uri(image_id)
        if not path or not Path(path).exists():
            raise InputError("no such image among the studies")
        return Path(path)

    def get_image_uri(self, image_id: str) -> str:
        """The image as one file that clients read; a DICOM series becomes NIfTI."""
        path = self.source(image_id)
        if path.is_file():
            return str(path)
        converted = self._images / f"{places.check_id(image_id)}.nii.gz"
        if not converted.is_file():
            write_nifti(read_volume(series_at(path)), converted)
        return str(converted)

    def list_images(self) -> list[str]:
        """Ids of the images; the watcher sees new files, and this sees new DICOM folders."""
        known = self._datastore.objects
        if any(name not in known for name in self._dicom_folders()):
            self.refresh()
        return sorted(self._datastore.objects)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Keep an image that a client sent.

        Raises:
            InputError: the id would be another path, or the file is no image that can be read.
        """
        places.check_id(image_id)
        read_image(Path(image_filename))
        added: str = super().add_image(image_id, image_filename, image_info)
        return added

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Keep a label, on the voxels of its image and with the classes' own numbers.

        Raises:
            InputError: the label or its tag cannot be used, or there is no such image.
        """
        check_tag(label_tag)
        image = read_image(self.source(image_id))
        given = names.names_in(label_info.get("label_info"))
        labels, _ = names.renumbered(read_labels(Path(label_filename)), given, self._classes)
        suffix = ".png" if ending(self.source(image_id)) in PICTURES else ".nii.gz"
        return self._keep(image_id, labels_on(labels, image), label_tag, label_info, suffix)

    def _keep(
        self, image_id: str, labels: Volume, tag: str, info: dict[str, Any], suffix: str = ".nii.gz"
    ) -> str:
        file = write_labels(labels, suffix)
        try:
            saved: str = super().save_label(image_id, str(file), tag, info)
        finally:
            file.unlink()
        return saved

    def labelled(self) -> list[dict[str, str]]:
        """Images with a final label, to learn from: ``id``, ``image`` as it came, ``label``."""
        tag = DefaultLabelTag.FINAL
        return [
            {"id": one, "image": str(self.source(one)), "label": self.get_label_uri(one, tag)}
            for one in sorted(self.get_labeled_images())
        ]

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """The same as files for clients."""
        return [
            {"image": self.get_image_uri(one["id"]), "label": one["label"]}
            for one in self.labelled()
        ]

    def _dicom_folders(self) -> list[str]:
        root = Path(self._datastore_path)
        taken = {Path(self._datastore.labels_dir).name}
        return [
            path.name
            for path in sorted(root.iterdir())
            if path.is_dir()
            and not path.name.startswith(".")
            and path.name not in taken
            and is_dicom_folder(path)
        ]

    def _list_files(self, path: str, patterns: Iterable[str]) -> dict[str, str]:
        files: dict[str, str] = super()._list_files(path, patterns)
        if os.path.realpath(path) == os.path.realpath(self._datastore.image_path()):
            files |= {name: name for name in self._dicom_folders()}
        return files

    def _to_id(self, file: str) -> tuple[str, str]:
        if (Path(self._datastore_path) / file).is_dir():
            return file, ""
        found: tuple[str, str] = super()._to_id(file)
        return found


def check_tag(tag: str) -> None:
    """Refuse a tag that would become another folder.

    Raises:
        InputError: it is none of MONAI Label's own.
    """
    if tag not in _TAGS:
        raise InputError(f"no such tag of a label; give one of {', '.join(sorted(_TAGS))}")

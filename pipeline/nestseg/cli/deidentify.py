"""``nestseg deidentify``: DICOM files without what names their patient. Never imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nestseg.batch.read import read_view
from nestseg.cli import tables
from nestseg_prep.deidentify import DoubtError, deidentify_file, folder_for
from nestseg_prep.dicom.files import NotDicomError
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.references import OtherFile
from nestseg_prep.dicom.walk import files_below
from nestseg_prep.errors import InputError

ALL_DONE = 0
SOME_LEFT_OUT = 1


def run(paths: list[Path], out: Path, *, pixels_checked: bool) -> int:
    """De-identify every DICOM file below ``paths`` into ``out``.

    Returns:
        0 if every DICOM file was written, 1 if some were left out because they may name somebody.

    Raises:
        InputError: a path does not exist, there is no DICOM file, or ``out`` cannot be used.
    """
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        if out.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{out}: lies inside the input; give a folder outside of it")
    written = faces = 0
    left_out: Counter[str] = Counter()
    with tables.stderr.status("De-identifying …") as status:
        for path in _files(paths, left_out):
            try:
                done = deidentify_file(path, folder_for(out), pixels_checked=pixels_checked)
            except NotDicomError:
                continue
            except DoubtError as error:
                left_out[str(error)] += 1
                continue
            written += 1
            faces += done.may_show_face
            status.update(f"De-identifying … {written} files")
    if not written and not left_out:
        raise InputError(f"{paths[0]}: no DICOM files; NIfTI files hold no names but their own")
    for reason, count in sorted(left_out.items()):
        tables.stderr.print(f"nestseg: {count} left out: each {reason}", soft_wrap=True)
    if faces:
        tables.stderr.print(
            f"nestseg: files that may show a face: {faces}; pixels are not changed, and a head can "
            "be rendered: take the face off with another tool before they leave the hospital",
            soft_wrap=True,
        )
    tables.console.print(f"{written} files written to {out}, {left_out.total()} left out")
    return SOME_LEFT_OUT if left_out else ALL_DONE


def results(out: Path) -> None:
    """De-identify the DICOM files of a results folder in place.

    What the bundle calls its labels, and its name, version and digest stay: the record of the run
    tells them, and they were there before any patient came.

    Raises:
        InputError: one of them cannot be; it is deleted, since it must not stay by that name.
    """
    vouched = _texts_of_bundle(out)
    for path in sorted(out.glob("*.dcm")):
        try:
            deidentify_file(path, lambda _, same=path: same, vouched=vouched)  # type: ignore[misc]
        except (DoubtError, NotDicomError) as error:
            path.unlink()
            raise InputError(f"{path.name}: not de-identified ({error}); deleted") from error


def _texts_of_bundle(out: Path) -> set[str]:
    # Imported here: highdicom costs half a second.
    from nestseg.outputs.dicom.results import texts_of

    try:
        view = read_view(out)
    except InputError:  # no journal: nobody vouches for anything
        return set()
    if not view.header.bundle:
        return set()
    parts = {row.part for row in view.rows}
    return texts_of(view.header.bundle, view.header.labels.values(), parts)


def _files(paths: list[Path], left_out: Counter[str]) -> Iterator[Path]:
    """Every file below the paths; files and folders that cannot be read are counted."""
    for one in files_below(paths, None):
        if not isinstance(one, OtherFile):
            yield one.path
        elif one.finding.code is Code.UNREADABLE:
            left_out[f"cannot be read ({one.finding.detail})"] += 1

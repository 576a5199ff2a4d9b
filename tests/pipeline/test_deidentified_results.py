"""SEG and SR without their patient: masks, volumes and the bundle's words stay."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.results import texts_of, write_results
from nestseg.outputs.dicom.source import read_source
from nestseg.outputs.dicom.sr import volumes_of
from nestseg_prep import phantom
from nestseg_prep.deidentify import REMOVED, Doubt, DoubtError, deidentify_file, folder_for
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

from .dicom_help import ALGORITHM, random_labels

MARK = "MARKER^PLANTED"
NAMES = {1: "left kidney", 2: "lesion of type B", 3: "hippocampus"}
VOLUMES = {"left kidney": 2.125, "lesion of type B": 1.5, "hippocampus": 0.0}
# What a de-identified object says of itself, of nobody, or of when it was not made.
OWN = {
    *("PatientName", "PatientID", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("LongitudinalTemporalInformationModified", "SpecificCharacterSet", "CodeMeaning"),
}

# What highdicom says of itself, and in words of what tags say already.
LIBRARY = {
    *("Highdicom open-source contributors", "highdicom", version("highdicom")),
    *("Software library used to create this instance", "Image Position Patient"),
    *("Acquisition equipment of the source image(s)", "Referenced Segment Number"),
}


@pytest.fixture(params=list(Encoding))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """SEG and SR of a series that names its patient everywhere a person would."""
    series = phantom.with_marker(MARK)(Phantom(modality="MR").datasets())
    phantom.write(series, tmp_path / "in")
    (ref,) = scan(tmp_path / "in").accepted
    image = read_volume(ref)
    labels = random_labels(image.shape)
    mask = Volume(labels, image.affine, image.series_uid, image.sop_uids, image.source)
    stem = tmp_path / "case"
    return write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, stem, request.param)


def texts(ds: Dataset) -> dict[str, set[str]]:
    """Keyword → values, of everything that is text."""
    found: dict[str, set[str]] = {}
    for element in ds.iterall():
        if element.VR in {"LO", "SH", "LT", "ST", "UT", "UC", "CS"} and element.value:
            found.setdefault(element.keyword, set()).add(str(element.value))
    return {keyword: said for keyword, said in found.items() if keyword not in OWN}


def test_masks_volumes_and_the_bundles_words_stay(
    written: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle = {
        "name": ALGORITHM.name,
        "version": ALGORITHM.bundle_version,
        "weights_sha256": ALGORITHM.weights_sha256,
    }
    vouched = texts_of(bundle, NAMES.values())
    place = folder_for(tmp_path / "out")
    seg, sr = (deidentify_file(path, place, vouched=vouched).path for path in written)
    for path in (tmp_path / "in").iterdir():
        deidentify_file(path, folder_for(tmp_path / "open"))
    (open_series,) = scan(tmp_path / "open").accepted
    (closed_series,) = scan(tmp_path / "in").accepted
    np.testing.assert_array_equal(
        read_seg(seg).labels_on(read_source(open_series)),
        read_seg(written[0]).labels_on(read_source(closed_series)),
    )
    images = {one.sop_uid for one in open_series.slices}
    for path in (seg, sr):
        ds = dcmread(path)
        referred = {
            str(one.value) for one in ds.iterall() if one.keyword == "ReferencedSOPInstanceUID"
        }
        assert images <= referred <= images | {str(dcmread(seg).SOPInstanceUID)}
    assert read_seg(seg).names == NAMES
    assert volumes_of(dcmread(sr)) == volumes_of(dcmread(written[1]))
    for before, after in zip(written, (seg, sr), strict=True):
        said, kept = texts(dcmread(before)), texts(dcmread(after))
        assert not any(MARK in value for values in kept.values() for value in values)
        gone = {word for keyword in said for word in said[keyword] - kept.get(keyword, set())}
        assert gone <= LIBRARY | {MARK}


def test_words_that_nobody_vouches_for_go(written: tuple[Path, Path], tmp_path: Path) -> None:
    place = folder_for(tmp_path / "out")
    seg, sr = (deidentify_file(path, place).path for path in written)
    for path in (seg, sr):
        content = path.read_bytes()
        assert not any(
            word in content for word in (b"MARKER", b"lesion of", ALGORITHM.name.encode())
        )
    assert read_seg(seg).names == {number: f"Segment {number}" for number in NAMES}
    assert REMOVED in texts(dcmread(sr))["TextValue"]
    assert volumes_of(dcmread(sr)) == volumes_of(dcmread(written[1]))
    again = deidentify_file(seg, folder_for(tmp_path / "again")).path
    assert again.read_bytes() == seg.read_bytes()


def test_a_report_is_judged_by_what_it_is_not_by_who_says_to_have_made_it(
    written: tuple[Path, Path], tmp_path: Path
) -> None:
    """Somebody's letter stays out, though it calls its manufacturer nestseg."""
    ds = dcmread(written[1])
    (name,) = ds.ConceptNameCodeSequence
    name.CodeValue, name.CodingSchemeDesignator = "18748-4", "LN"
    letter = tmp_path / "letter.dcm"
    ds.save_as(letter)
    with pytest.raises(DoubtError) as caught:
        deidentify_file(letter, folder_for(tmp_path / "out"))
    assert caught.value.doubt is Doubt.NO_IMAGE

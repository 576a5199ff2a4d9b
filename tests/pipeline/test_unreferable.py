"""Series that no DICOM object can refer to: the mask is written, SEG and SR are not."""

import json

import pydicom
import pytest

from nestseg.batch.manner import Manner
from nestseg.cli.segment import run as segment
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.results import write_results
from nestseg.outputs.dicom.source import NotReferableError, read_source
from nestseg_prep import phantom
from nestseg_prep.dicom.rules import Rules
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom, every, setting
from nestseg_prep.phantom.series import uid_from
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

from .conftest import MR_CROP
from .dicom_help import ALGORITHM, NAMES, random_labels


def one_uid_each(series):
    for number, ds in enumerate(series):
        ds.SeriesInstanceUID = uid_from(f"series {number}")
    return series


@pytest.mark.parametrize(
    ("change", "rules", "why"),
    [
        (
            every(setting(SOPInstanceUID="2.25.77")),
            Rules(),
            "have one SOPInstanceUID",
        ),
        (one_uid_each, Rules(regroup=True), "a SeriesInstanceUID each"),
        (every(setting(StudyInstanceUID=None)), Rules(), "lacks a UID"),
    ],
)
def test_the_volume_is_read_and_the_reason_is_named(change, rules, why, tmp_path):
    source = Phantom(modality="MR")
    phantom.write(change(source.datasets()), tmp_path)
    (ref,) = scan(tmp_path, rules=rules).accepted
    assert (read_volume(ref).array == source.truth.array).all()
    with pytest.raises(NotReferableError, match=why):
        read_source(ref)


def test_a_case_without_dicom_results_is_done_and_says_so(tmp_path):
    bad = every(setting(SOPInstanceUID="2.25.77"))(MR_CROP.datasets())
    good = every(setting(EchoTime=90))(MR_CROP.datasets())
    for ds in good:
        ds.SeriesInstanceUID = uid_from("good")
    good[3].EchoTime = 30  # one slice of another echo: a warning of the scan
    phantom.write(bad, tmp_path / "in" / "bad")
    phantom.write(good, tmp_path / "in" / "good")
    code = segment(
        [tmp_path / "in"],
        "hippocampus_unetpp",
        tmp_path / "out",
        dicom=Encoding.BINARY,
        manner=Manner(workers=0),
    )
    assert code == 0
    cases = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    lacking = [case for case in cases if case["dicom"] is None]
    assert len(cases) == 2
    assert len(lacking) == 1
    assert all((tmp_path / "out" / case["mask"]).exists() for case in cases)
    assert "one SOPInstanceUID" in " ".join(lacking[0]["notes"])
    codes = {case["key"]: [one["code"] for one in case["findings"]] for case in cases}
    assert "mixed-settings" not in codes.pop(lacking[0]["key"])
    (others,) = codes.values()
    assert "mixed-settings" in others


def test_the_description_of_a_result_says_which_part_of_the_series_it_is(tmp_path):
    series = phantom.phases(2, EchoTime=lambda phase: 10 + 80 * phase)(
        Phantom(modality="MR").datasets()
    )
    phantom.write(series, tmp_path / "in")
    for ref, part in zip(
        scan(tmp_path / "in").accepted, ("echo time 10 ms", "echo time 90 ms"), strict=True
    ):
        image = read_volume(ref)
        labels = random_labels(image.shape)
        mask = Volume(labels, image.affine, image.series_uid, image.sop_uids, image.source)
        volumes = dict.fromkeys(NAMES.values(), 1.0)
        files = write_results([mask], ref, volumes, NAMES, ALGORITHM, tmp_path / ref.key)
        for path in files:
            described = str(pydicom.dcmread(path).SeriesDescription)
            assert described.endswith(f": {part}")
            assert len(described) <= 64

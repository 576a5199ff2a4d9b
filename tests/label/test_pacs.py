"""The server on the series of a real PACS, and its labels as segmentation objects there."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy import ndimage

from nestseg.bundle.locate import find
from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.seg import label_seg
from nestseg.outputs.dicom.source import read_source
from nestseg.pacs.retrieve import Query, fetch
from nestseg.pacs.retrieve import find as find_series
from nestseg.pacs.send import dicom_files, send
from nestseg_prep import phantom
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume
from tests.opened import opened

from ..orthanc import Orthanc, free_port, run_orthanc  # noqa: TID252  tests are no package
from .serving import BUNDLE, Server, label_command, run_server, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CT_BUNDLE = "ct_trunk_unetpp"
SIZES: dict[str, Any] = {
    "columns": 40,
    "rows": 36,
    "slices": 28,
    "between_columns": 0.9,
    "between_rows": 1.1,
    "between_slices": 1.3,
}
SERIES = {
    "mr": Phantom(name="mr", modality="MR", plane="oblique", **SIZES),
    "ct": Phantom(
        name="ct",
        modality="CT",
        study="ct",
        **SIZES | {"between_columns": 2.5, "between_rows": 2.6, "between_slices": 3.2},
    ),
    "late": Phantom(name="late", modality="MR", study="late", **SIZES),
}
CLASSES = {1: "anterior hippocampus", 2: "posterior hippocampus"}
NAMES = [{"name": name, "idx": number} for number, name in CLASSES.items()]


def write(name: str, folder: Path) -> Path:
    """A series of smooth noise."""
    kind = SERIES[name]
    datasets = kind.datasets()
    noise = ndimage.gaussian_filter(
        np.random.default_rng(len(name)).normal(size=(kind.slices, kind.rows, kind.columns)), 2.0
    )
    for ds, values in zip(datasets, (noise - noise.min()) / np.ptp(noise) * 1000, strict=True):
        phantom.set_pixels(ds, values.astype(np.int32))
    phantom.write(phantom.with_marker("MARKER^PLANTED")(datasets), folder)
    return folder


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with run_orthanc(tmp_path_factory.mktemp("pacs") / "orthanc") as orthanc:
            yield orthanc


@pytest.fixture(scope="module")
def refs(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SeriesRef]:
    """An MR and a CT series, stored before the server starts."""
    found = {}
    for name in ("mr", "ct"):
        folder = write(name, tmp_path_factory.mktemp(name) / "series")
        assert not [one.error for one in send(dicom_files([folder]), pacs.web) if one.error]
        (found[name],) = scan(folder).series
    return found


@pytest.fixture(scope="module")
def server(
    pacs: Orthanc, refs: dict[str, SeriesRef], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    work = folder / "work"
    address = pacs.web.url.replace("http://", "dicomweb://")
    command = label_command(f"{BUNDLE},{CT_BUNDLE}", address, work, port)
    yield from run_server(folder, command, port, work)


def uid(ref: SeriesRef) -> str:
    return str(dcmread(ref.files[0]).SeriesInstanceUID)


def segs_of(pacs: Orthanc, ref: SeriesRef, folder: Path) -> list[Dataset]:
    """The segmentation objects of a series' study, oldest first."""
    study = str(dcmread(ref.files[0]).StudyInstanceUID)
    found = find_series(pacs.web, Query(study=study, match={"Modality": "SEG"}))
    folder.mkdir(exist_ok=True)
    fetch(pacs.web, found, folder)
    objects = [dcmread(path) for path in dicom_files([folder])]
    return sorted(objects, key=lambda ds: (ds.ContentDate, ds.ContentTime))


def drawn(ref: SeriesRef, *numbers: int) -> Volume:
    """A label on the voxels of a series: a block for each class."""
    image = read_volume(ref)
    array = np.zeros(image.shape, np.uint8)
    for number in numbers:
        array[4 + 6 * number : 9 + 6 * number, 5:17, 3:20] = number
    return Volume(array, image.affine)


def save(server: Server, ref: SeriesRef, label: Volume, info: Sequence[Any] = NAMES) -> None:
    path = server.folder / "drawn.nii.gz"
    write_nifti(label, path)
    try:
        server.client.save_label(uid(ref), str(path), "final", {"label_info": list(info)})
    finally:
        path.unlink()


def labelled(server: Server) -> str:
    """What the server has to learn from."""
    url = f"{server.url}/datastore/?output=train"
    with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310
        return str(answer.read().decode())


def read_back(server: Server, ref: SeriesRef) -> Volume:
    """What the server reads from the PACS: its own copies are taken away first."""
    for path in (server.work / "images" / "labels" / "final").glob("*.nii.gz"):
        path.unlink()
    assert uid(ref) in labelled(server)
    return read_nifti(server.work / "images" / "labels" / "final" / f"{uid(ref)}.nii.gz")


def valid(path: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        return
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr, done.stderr


@pytest.mark.parametrize(("name", "model"), [("mr", BUNDLE), ("ct", CT_BUNDLE)])
def test_ct_and_mr_are_segmented_as_by_nestseg_segment(
    server: Server, refs: dict[str, SeriesRef], name: str, model: str
) -> None:
    expected = opened(find(model)).predict(read_volume(refs[name])).mask
    file, said = server.client.infer(model, uid(refs[name]), {})
    found = read_nifti(Path(file))
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    assert said["bundle"] == model


def test_a_result_as_a_segmentation_object(
    server: Server, refs: dict[str, SeriesRef], tmp_path: Path
) -> None:
    ref = refs["mr"]
    expected = opened(find(BUNDLE)).predict(read_volume(ref)).mask
    body = '{"label_info": [{"name": "anterior hippocampus"}, {"name": "posterior hippocampus"}]}'
    boundary = "x1y2z3"
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n\r\n'
        f"{body}\r\n--{boundary}--\r\n"
    )
    request = urllib.request.Request(  # noqa: S310
        f"{server.url}/infer/{BUNDLE}?image={uid(ref)}&output=dicom_seg",
        form.encode(),
        {"content-type": f"multipart/form-data; boundary={boundary}"},
    )
    path = tmp_path / "seg.dcm"
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
        path.write_bytes(answer.read())
    valid(path)
    seg = read_seg(path)
    assert {n: text.lower() for n, text in seg.names.items()} == CLASSES
    np.testing.assert_array_equal(seg.labels_on(read_source(ref)), ref.source.take(expected.array))
    assert dcmread(path).SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


@pytest.mark.parametrize("numbers", [(1, 2), (2,), ()])
def test_labels_keep_their_classes_and_places(
    server: Server,
    pacs: Orthanc,
    refs: dict[str, SeriesRef],
    tmp_path: Path,
    numbers: tuple[int, ...],
) -> None:
    ref = refs["mr"]
    label = drawn(ref, *numbers)
    save(server, ref, label)
    stored = segs_of(pacs, ref, tmp_path / "got")[-1]
    path = tmp_path / "stored.dcm"
    stored.save_as(path)
    valid(path)
    seg = read_seg(path)
    assert {n: text.lower() for n, text in seg.names.items()} == CLASSES
    np.testing.assert_array_equal(seg.labels_on(read_source(ref)), ref.source.take(label.array))
    assert {one.SegmentAlgorithmType for one in stored.SegmentSequence} == {"MANUAL"}
    back = read_back(server, ref)
    np.testing.assert_array_equal(back.array, label.array)
    np.testing.assert_allclose(back.affine, label.affine, atol=1e-4)


def test_one_structure_that_a_client_calls_1_is_stored_as_its_class(
    server: Server, refs: dict[str, SeriesRef]
) -> None:
    ref = refs["mr"]
    label = drawn(ref, 2)
    alone = Volume((label.array > 0).astype(np.uint8), label.affine)
    save(server, ref, alone, [{"name": "Posterior hippocampus", "idx": 1}])
    np.testing.assert_array_equal(read_back(server, ref).array, label.array)


def test_cropped_flipped_and_reversed_labels_find_their_places(
    server: Server, refs: dict[str, SeriesRef]
) -> None:
    ref = refs["mr"]
    label = drawn(ref, 1, 2)
    move = np.diag([-1.0, 1.0, -1.0, 1.0])
    move[:3, 3] = [30, 2, 24]
    array = label.array[30:2:-1, 2:34, 24:1:-1]
    save(server, ref, Volume(np.ascontiguousarray(array), label.affine @ move))
    np.testing.assert_array_equal(read_back(server, ref).array, label.array)


def test_a_label_between_the_voxels_is_refused(server: Server, refs: dict[str, SeriesRef]) -> None:
    label = drawn(refs["mr"], 1)
    off = label.affine.copy()
    off[:3, 3] += off[:3, 0] / 2
    with pytest.raises(Exception, match="Status: 400") as error:
        save(server, refs["mr"], Volume(label.array, off))
    assert "another grid" in error.value.msg


@pytest.mark.parametrize("encoding", [Encoding.LABELMAP, Encoding.BINARY])
def test_objects_of_other_writers_are_read(
    server: Server, pacs: Orthanc, refs: dict[str, SeriesRef], tmp_path: Path, encoding: Encoding
) -> None:
    """LABELMAP is run-length encoded; its classes are numbered otherwise, and named as ours."""
    ref = refs["ct"]
    bundle = opened(find(CT_BUNDLE))
    names = dict(bundle.info.labels)
    swapped = {**names, 1: names[2].upper(), 2: names[1]}
    label = drawn(ref, 1, 2)
    theirs = np.array([0, 2, 1], np.uint8)[label.array]
    seg = label_seg(
        ref.source.take(theirs), read_source(ref), swapped, Algorithm("other", "1", "0"), encoding
    )
    path = tmp_path / "other.dcm"
    seg.save_as(path)
    assert not [one.error for one in send([path], pacs.web) if one.error]
    wait_for(lambda: uid(ref) in labelled(server))  # the list of a PACS may be some seconds old
    wait_for(lambda: np.array_equal(read_back(server, ref).array, label.array))


def test_series_that_come_after_the_start_are_there(
    server: Server, pacs: Orthanc, tmp_path: Path
) -> None:
    folder = write("late", tmp_path / "late")
    assert not [one.error for one in send(dicom_files([folder]), pacs.web) if one.error]
    (ref,) = scan(folder).series
    wait_for(lambda: server.client.next_sample("first", {}).get("id") == uid(ref))
    file, _ = server.client.infer(BUNDLE, uid(ref), {})
    expected = opened(find(BUNDLE)).predict(read_volume(ref)).mask
    np.testing.assert_array_equal(read_nifti(Path(file)).array, expected.array)
    save(server, ref, drawn(ref, 1, 2))
    assert server.client.info()["datastore"]["completed"] == 3


def test_a_model_is_fine_tuned_on_labels_of_the_pacs(
    server: Server, refs: dict[str, SeriesRef]
) -> None:
    server.client.train_start(BUNDLE, {"max_epochs": 1})
    task = server.settled()
    assert task["status"] == "DONE", task
    last = server.client.info()["train_stats"][BUNDLE][BUNDLE]
    assert (last["training_cases"], last["validation_cases"]) == (1, 1)
    assert last["left_out"] == 1  # the CT series, which the bundle does not take


def test_nothing_of_the_patient_is_in_the_log_or_beside_the_images(
    server: Server, refs: dict[str, SeriesRef]
) -> None:
    told = (server.work / "images" / "datastore_v2.json").read_text()
    for text in (server.log, told):
        assert "MARKER" not in text
    assert uid(refs["mr"]) not in server.log

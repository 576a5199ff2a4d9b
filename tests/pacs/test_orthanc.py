"""Against a real PACS: Orthanc with its DICOMweb plug-in, on this machine only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.source import read_source
from nestseg.pacs.addresses import Web
from nestseg.pacs.retrieve import Query, fetch, find
from nestseg.pacs.send import dicom_files, send
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

from ..orthanc import Orthanc, free_port, run_orthanc  # noqa: TID252  tests are no package

pytestmark = pytest.mark.slow

BUNDLE = "hippocampus_unetpp"
CROP = Phantom(
    name="crop",
    modality="MR",
    plane="oblique",
    columns=40,
    rows=36,
    slices=28,
    between_columns=0.9,
    between_rows=1.1,
    between_slices=1.3,
)


@pytest.fixture
def orthanc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orthanc]:
    for name in ("pynetdicom", "dicomweb_client"):
        pytest.importorskip(name, reason="needs the extra `pacs`")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with run_orthanc(tmp_path / "orthanc") as server:
        yield server


def crop() -> phantom.Series:
    """An MR crop of smooth noise."""
    noise = ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=(CROP.slices, CROP.rows, CROP.columns)), 2.0
    )
    series = CROP.datasets()
    for ds, values in zip(series, (noise - noise.min()) / np.ptp(noise) * 1000, strict=True):
        phantom.set_pixels(ds, values.astype(np.int32))
    return series


def nestseg(*arguments: object, code: int = 0) -> str:
    """Runs the command as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", "nestseg.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_study_goes_in_is_segmented_and_the_result_comes_back_equal(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    files = phantom.write(phantom.with_marker("MARKER^PLANTED")(crop()), source)
    assert not [one.error for one in send(files, orthanc.node) if one.error]
    out = tmp_path / "out"
    study = dcmread(files[0]).StudyInstanceUID
    said = nestseg("segment", "--from", orthanc.web.url, "--study", study, "-b", BUNDLE, "-o", out)
    (mask_path,) = out.glob("*_seg.nii.gz")
    assert "MARKER" not in said
    assert study not in said
    assert not list(out.glob(".fetched*"))

    address = orthanc.web.url.replace("http://", "dicomweb://")
    nestseg(
        "segment", source, "-b", BUNDLE, "-o", tmp_path / "sent", "--rtstruct", "--send-to", address
    )
    local = read_nifti(tmp_path / "sent" / mask_path.name)
    np.testing.assert_array_equal(read_nifti(mask_path).array, local.array)

    (ref,) = scan(source).series
    (seg_path,) = (tmp_path / "sent").glob("*_seg.dcm")
    (found,) = find(orthanc.web, Query(study=study, match={"Modality": "SEG"}))
    assert found.series == dcmread(seg_path).SeriesInstanceUID
    (tmp_path / "back").mkdir()
    fetch(orthanc.web, [found], tmp_path / "back")
    (path,) = dicom_files([tmp_path / "back"])
    assert dcmread(path).StudyInstanceUID == study
    assert dcmread(path).PixelData == dcmread(seg_path).PixelData
    labels = read_seg(path).labels_on(read_source(ref))
    np.testing.assert_array_equal(labels, ref.source.take(local.array))
    assert len(find(orthanc.web, Query(study=study, match={"Modality": "SR"}))) == 1
    (found,) = find(orthanc.web, Query(study=study, match={"Modality": "RTSTRUCT"}))
    (tmp_path / "contours").mkdir()
    fetch(orthanc.web, [found], tmp_path / "contours")
    (path,) = dicom_files([tmp_path / "contours"])
    (contours,) = (tmp_path / "sent").glob("*_rtstruct.dcm")
    assert dcmread(path) == dcmread(contours)
    assert len(orthanc.studies) == 1


def test_a_listener_segments_what_the_pacs_forwards(orthanc: Orthanc, tmp_path: Path) -> None:
    files = phantom.write(phantom.with_marker("MARKER^PLANTED")(crop()), tmp_path / "source")
    send(files, orthanc.node)
    out, port = tmp_path / "out", free_port()
    log = tmp_path / "listener.log"
    with log.open("wb") as sink:
        listener = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "nestseg.cli",
                "receive",
                "-b",
                BUNDLE,
                "-o",
                out,
                "--port",
                str(port),
                "--allow",
                "ORTHANC",
                "--quiet",
                "3",
            ],
            stdout=sink,
            stderr=sink,
            env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        )
    try:
        wait_for(lambda: "listening" in log.read_text(), 60)
        root = orthanc.web.url.removesuffix("/dicom-web")
        target = {"AET": "NESTSEG", "Host": "127.0.0.1", "Port": port}
        request(f"{root}/modalities/nestseg", "PUT", target)
        request(f"{root}/modalities/nestseg/store", "POST", orthanc.studies)
        wait_for(lambda: "done" in log.read_text(), 300)
        wait_for(lambda: not list((out / ".received").rglob("*.dcm")), 30)
    finally:
        listener.send_signal(signal.SIGTERM)
        assert listener.wait(60) == 0, log.read_text()
    assert "stopped" in log.read_text()
    (mask,) = out.glob("*/*/*_seg.nii.gz")
    (ref,) = scan(tmp_path / "source").series
    assert mask.name == f"{ref.key}_seg.nii.gz"
    np.testing.assert_allclose(read_nifti(mask).affine, read_volume(ref).affine, atol=1e-4)
    texts = [log.read_text(), *map(str, out.rglob("*"))]
    texts += [path.read_text() for path in (*out.rglob("*.txt"), *out.rglob("*.json"))]
    assert not any("MARKER" in text or ref.study_uid in text for text in texts)


def test_only_what_was_asked_for_is_fetched(orthanc: Orthanc, tmp_path: Path) -> None:
    ct = phantom.every(phantom.setting(AccessionNumber="A1"))(Phantom(name="ct").datasets())
    mr = Phantom(name="mr", modality="MR", study="other", slices=4).datasets()
    for number, series in enumerate((ct, mr)):
        send(phantom.write(series, tmp_path / str(number)), orthanc.node)
    one, *_ = ct
    queries = {
        "study": Query(study=one.StudyInstanceUID),
        "series": Query(series=one.SeriesInstanceUID),
        "match": Query(match={"AccessionNumber": "A1"}),
        "modality": Query(match={"StudyDate": "19000101-"}, modalities=["CT"]),
    }
    for query in queries.values():
        (found,) = find(orthanc.web, query)
        assert (found.series, found.modality, found.instances) == (one.SeriesInstanceUID, "CT", 12)
    (tmp_path / "got").mkdir()
    fetch(orthanc.web, [found], tmp_path / "got")
    (ref,) = scan(tmp_path / "got").series
    np.testing.assert_array_equal(read_volume(ref).array, Phantom().truth.array)
    assert find(orthanc.web, Query(match={"AccessionNumber": "A2"})) == []
    with pytest.raises(InputError, match="whole PACS"):
        find(orthanc.web, Query())
    with pytest.raises(InputError, match="does not answer"):
        find(Web(f"http://127.0.0.1:{free_port()}/dicom-web"), Query(study="1.2"))
    said = nestseg(
        "segment",
        "--from",
        orthanc.web.url,
        "--match",
        "AccessionNumber=A1",
        "-b",
        BUNDLE,
        "-o",
        tmp_path / "none",
        code=2,
    )
    assert "no series of modality MR" in said
    assert said.count("\n") == 1


def wait_for(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.25)


def request(url: str, method: str, content: object) -> None:
    body = json.dumps(content).encode()
    asked = urllib.request.Request(url, body, method=method)  # noqa: S310
    with urllib.request.urlopen(asked, timeout=120) as answer:  # noqa: S310
        answer.read()

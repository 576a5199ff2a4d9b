"""OHIF, as MONAI Label serves it, in a real browser: what it shows lies on the image.

With `NESTSEG_PICTURES=docs/images` in the environment the pictures of docs/label.md are made anew.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestseg.bundle.locate import find
from nestseg.pacs.send import dicom_files, send
from nestseg_prep import affine as affines
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume
from tests.opened import opened

from ..orthanc import Orthanc, free_port, run_orthanc  # noqa: TID252  tests are no package
from .serving import BUNDLE, Server, label_command, run_server

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="no chromium and chromedriver here"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--window-size=1500,950",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
SECONDS = 300
RUN = """
if (!window.services) return false;
const {viewportGridService, cornerstoneViewportService, segmentationService} = window.services;
const address = document.getElementById('monailabelServerURL');
const buttons = Array.from(document.querySelectorAll('button'));
buttons.filter(button => button.textContent.trim() === 'Confirm and Hide').forEach(b => b.click());
const run = buttons.find(button => button.textContent.trim() === 'Run');
const viewport = cornerstoneViewportService.getCornerstoneViewport(
    viewportGridService.getActiveViewportId());
// OHIF lays its segmentation over the image that is shown when it connects, if one is.
const shown = viewport && viewport.getImageIds().length > 0;
const ready = run && segmentationService.getSegmentation('1');
if (ready) {
    run.click();
} else if (address && shown && !run) {  // not yet connected
    address.closest('tr').querySelector('button').click();
}
return !!ready;
"""
LABELMAP = """
const map = window.services.segmentationService.getLabelmapVolume('1');
return {shape: map.dimensions, direction: Array.from(map.direction), origin: map.origin,
        spacing: map.spacing, values: Array.from(map.voxelManager.getCompleteScalarDataArray())};
"""
Browser = Any  # selenium's types are not complete


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> dict[str, Path]:
    """A crop of a head, and an oblique series of another one's size."""
    oblique = tmp_path_factory.mktemp("oblique") / "series"
    # No two axes alike, so that no turn of the labels goes unseen.
    sizes = {"columns": 44, "rows": 36, "slices": 28}
    datasets = Phantom(name="oblique", modality="MR", plane="oblique", **sizes).datasets()
    noise = np.random.default_rng(5).normal(500, 100, (28, 36, 44))
    for ds, values in zip(datasets, noise.clip(0), strict=True):
        phantom.set_pixels(ds, values.astype(np.int32))
    phantom.write(datasets, oblique)
    return {"oblique": oblique, "hippocampus": shared_data / "dicom" / "mr_hippocrop_2"}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, series: dict[str, Path]) -> Iterator[Orthanc]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with run_orthanc(tmp_path_factory.mktemp("pacs") / "orthanc") as orthanc:
            for folder in series.values():
                assert not [one for one in send(dicom_files([folder]), orthanc.web) if one.error]
            yield orthanc


@pytest.fixture(scope="module")
def server(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    address = pacs.web.url.replace("http://", "dicomweb://")
    command = label_command(BUNDLE, address, folder / "work", port)
    yield from run_server(folder, command, port, folder / "work")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(SECONDS)
    driver.set_script_timeout(SECONDS)
    yield driver
    driver.quit()


def done(browser: Browser, script: str) -> None:
    """Run a script until it says that it found what it needs: OHIF draws its page anew and anew."""
    wait = WebDriverWait(browser, SECONDS, poll_frequency=5)
    try:
        wait.until(lambda now: now.execute_script(script))
    except TimeoutException:
        lines = [line["message"] for line in browser.get_log("browser")]
        pytest.fail("\n".join([browser.current_url, *lines[-10:]]))


def said(browser: Browser, words: str) -> None:
    """Wait until the page says it in the console."""
    deadline = time.monotonic() + SECONDS
    heard: list[str] = []
    while not any(words in line for line in heard):
        assert time.monotonic() < deadline, heard[-5:]
        time.sleep(0.5)
        heard += [line["message"] for line in browser.get_log("browser")]


def segmented_in_ohif(browser: Browser, server: Server, study: str, picture: str) -> Volume:
    """Open a study in OHIF, run the bundle there; what it then shows, where it shows it."""
    browser.get(f"{server.url}/ohif/app-config.js")
    browser.add_cookie({"name": "MONAILABEL_SERVER_URL", "value": f"{server.url}/"})
    browser.get(f"{server.url}/ohif/monai-label?StudyInstanceUIDs={study}")
    done(browser, RUN)
    said(browser, "updated the segmentation")
    if folder := os.environ.get("NESTSEG_PICTURES"):
        time.sleep(5)  # until it is drawn
        browser.save_screenshot(str(Path(folder) / picture))
    shown = browser.execute_script(LABELMAP)
    array = np.array(shown["values"], np.uint8).reshape(shown["shape"], order="F")
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(shown["direction"], (3, 3)).T * shown["spacing"]
    lps[:3, 3] = shown["origin"]
    return Volume(array, affines.swap_lps_ras(lps))


@pytest.mark.parametrize("name", ["oblique", "hippocampus"])
def test_a_mask_in_ohif_lies_on_the_voxels_of_its_image(
    name: str, server: Server, browser: Browser, series: dict[str, Path]
) -> None:
    (ref,) = (one for one in scan(series[name]).series if one.kind == "dicom")
    mask = opened(find(BUNDLE)).predict(read_volume(ref)).mask
    shown = segmented_in_ohif(browser, server, ref.study_uid, f"label_ohif_{name}.png")
    # From each voxel that OHIF shows to the voxel of our mask at that place in the patient.
    to_ours = np.linalg.solve(mask.affine, shown.affine)
    places = np.indices(shown.shape).reshape(3, -1)
    ours = np.rint(to_ours[:3, :3] @ places + to_ours[:3, 3:]).astype(int)
    assert np.abs(to_ours[:3, :3] @ places + to_ours[:3, 3:] - ours).max() < 0.01
    assert sorted(shown.shape) == sorted(mask.shape)
    expected = np.asarray(mask.array)[tuple(ours)].reshape(shown.shape)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(shown.array, expected)

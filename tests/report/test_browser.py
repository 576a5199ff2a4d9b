"""The page in a real browser, from ``file://`` and without a network."""

from __future__ import annotations

import io
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nestseg import report
from nestseg.batch.states import Cause, State
from nestseg.report.live import serving
from nestseg_prep.nifti import write_nifti

from .bodies import body
from .runs import enter, facts, fail, finish, recording, take_snapshot

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1200,800",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
PATIENT = "DOE^JANE"


class Browser:
    """Chromium, as far as these tests need it."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for option in OPTIONS:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, address: str) -> None:
        self.driver.get("about:blank")
        self.complaints()
        self.requests()
        self.driver.get(address)
        there = "return document.readyState === 'complete' && typeof source !== 'undefined'"
        self.until(lambda: self.run(there), "the page")

    def complaints(self) -> list[str]:
        """What stands in the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first such element, once there is one: the page puts them in when it has the data."""
        wait = WebDriverWait(self.driver, 30)
        return wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def names(self) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll('#cases .open')].map(e => e.innerText)"
        )

    def until(self, is_so: Callable[[], Any], what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, f"{what}: not within {seconds} s; {self.complaints()}"
            time.sleep(0.05)

    def open_case(self, name: str) -> None:
        self.one(f'#cases tr[data-key="{name}"] .open').click()
        shown = f"return document.querySelector('.stage').dataset.shown === '{name}'"
        self.until(lambda: self.run(shown), f"the viewer shows {name}")

    def pixels(self, selector: str) -> np.ndarray:
        """What an element looks like, ``(rows, columns, 3)``."""
        picture = Image.open(io.BytesIO(self.one(selector).screenshot_as_png))
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


@pytest.fixture
def opened(run: Path, browser: Browser) -> Browser:
    browser.open(report.write(run).as_uri())
    return browser


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Where a mask shines through: neither grey nor black."""
    return np.ptp(pixels, axis=-1) > 40


def red(pixels: np.ndarray) -> np.ndarray:
    return coloured(pixels) & (pixels[..., 0] > pixels[..., 2] + 30)


def blue(pixels: np.ndarray) -> np.ndarray:
    return coloured(pixels) & (pixels[..., 2] > pixels[..., 0] + 30)


def test_it_loads_from_a_file_without_a_network(opened: Browser) -> None:
    assert len(opened.all("#cases tbody tr")) == 17
    assert "organs_unetpp" in opened.driver.title
    opened.open_case("case03")
    assert opened.complaints() == []
    schemes = {address.split(":")[0] for address in opened.requests()}
    assert schemes <= {"file", "data", "blob", "about"}


def test_the_page_may_connect_nowhere(opened: Browser) -> None:
    """A server is there, and whatever runs in the page cannot reach it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0.5)
        port = server.getsockname()[1]
        for call in (
            f"fetch('http://127.0.0.1:{port}/').catch(() => 0)",
            f"new Image().src = 'http://127.0.0.1:{port}/x.png'",
            f"navigator.sendBeacon('http://127.0.0.1:{port}/')",
        ):
            opened.run(call)
        with pytest.raises(TimeoutError):
            server.accept()
    assert any("Content Security Policy" in line for line in opened.complaints())


def test_rows_sort_both_ways_and_empty_cells_stay_last(opened: Browser) -> None:
    measured = 'th[data-column="ml:front"]'
    opened.one(f"{measured} button").click()
    falling = opened.names()
    assert falling[0] == "case05"
    assert set(falling[12:]) == {"poison", "large", "waiting", "gaps", "brain"}
    assert opened.one(measured).get_attribute("aria-sort") == "descending"
    opened.one(f"{measured} button").click()
    assert opened.names()[:12] == falling[:12][::-1]
    assert set(opened.names()[12:]) == set(falling[12:])
    opened.one('th[data-column="case"] button').click()
    assert opened.names() == sorted(opened.names())


def test_rows_are_searched_and_filtered(opened: Browser) -> None:
    search = opened.one("#search")
    opened.one("body").send_keys("/")
    search.send_keys("slice MISSING")
    assert opened.names() == ["gaps"]
    assert opened.one("#count").text == "1 of 17 rows"
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys("no such case")
    assert opened.names() == []
    assert opened.one("#nothing").is_displayed()
    search.clear()
    opened.run("document.getElementById('search').dispatchEvent(new Event('input'))")
    for state in ("failed", "quarantined"):
        opened.one(f'#states button[data-state="{state}"]').click()
    assert opened.names() == ["poison", "large"]
    opened.one('#states button[data-state="failed"]').click()
    opened.one('#states button[data-state="quarantined"]').click()
    opened.one('#flag option[value="unusual-volume"]').click()
    assert opened.names() == ["case05"]
    opened.one('#flag option[value="*"]').click()
    assert opened.names() == ["case03", "case05"]


def test_the_viewer_draws_image_and_mask(opened: Browser) -> None:
    opened.open_case("case00")
    opened.until(lambda: coloured(opened.pixels("#viewer")).any(), "a coloured mask")
    time.sleep(0.3)
    pixels = opened.pixels("#viewer")
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    assert red(pixels).sum() > 500
    assert blue(pixels).sum() > 2000
    # In the coronal plane, at the top, the front one lies on the left: the patient's right.
    opened.one('[data-view="coronal"]').click()
    opened.run("viewer.nv.scene.crosshairPos = [0.5, 0.8, 0.5]; viewer.nv.drawScene()")
    opened.until(lambda: red(opened.pixels("#viewer")).any(), "the front")
    pixels = opened.pixels("#viewer")
    rows, columns = np.nonzero(red(pixels))
    assert columns.mean() < pixels.shape[1] / 2
    assert np.nonzero(blue(pixels))[0].mean() < rows.mean()
    # Without the mask nothing is coloured, and the image is still there.
    opened.run("viewer.setOpacity(0)")
    opened.until(lambda: not coloured(opened.pixels("#viewer")).any(), "no mask")
    assert np.ptp(opened.pixels("#viewer")) > 100
    opened.run("viewer.setOpacity(0.55)")
    assert opened.complaints() == []


def test_cases_are_walked_through_with_the_keys(opened: Browser) -> None:
    opened.one('#cases tr[data-key="case00"] .open').send_keys(Keys.ARROW_DOWN)
    assert opened.driver.switch_to.active_element.text == "case01"
    opened.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert opened.one("#detail-name").text == "case01"
    opened.one("#close").send_keys(Keys.ARROW_RIGHT)
    assert opened.one("#detail-name").text == "case02"
    opened.one("body").send_keys(Keys.ESCAPE)
    assert not opened.one("#detail").is_displayed()
    opened.one('#cases tr[data-key="case05"] .open').click()
    assert "far from the other cases" in opened.one("#detail").text
    opened.one("#close").click()
    assert opened.complaints() == []


def test_a_case_without_volumes_says_so_and_takes_files(opened: Browser, run: Path) -> None:
    opened.one('#cases tr[data-key="case11"] .open').click()
    opened.until(lambda: opened.one(".says").text, "a word about it")
    assert "open the image and the mask as files" in opened.one(".says").text
    image, mask = body()
    write_nifti(image, run / "x.nii.gz")
    write_nifti(mask, run / "x_seg.nii.gz")
    opened.one("#files").send_keys(f"{run / 'x.nii.gz'}\n{run / 'x_seg.nii.gz'}")
    opened.until(lambda: coloured(opened.pixels("#viewer")).any(), "a coloured mask")
    assert opened.complaints() == []


def test_a_browser_without_webgl_says_so(opened: Browser) -> None:
    opened.run("HTMLCanvasElement.prototype.getContext = () => null; viewer.known = undefined")
    opened.one('#cases tr[data-key="case00"] .open').click()
    assert "WebGL 2" in opened.one(".says").text
    assert opened.one("#detail .planes").is_displayed()


def test_light_dark_and_paper(opened: Browser) -> None:
    shade = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    opened.run("setTheme('light')")
    light = opened.run(shade)
    opened.one("#theme").click()
    assert sum(opened.run(shade)) < 120 < sum(light)
    pdf = opened.driver.print_page()
    assert len(pdf) > 10_000


def test_a_thousand_cases(browser: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    with recording(tmp_path) as journal:
        shots = [take_snapshot(tmp_path, f"s{number}", 50 + number) for number in range(8)]
        for number in range(1000):
            name = f"c{number:04d}"
            if number % 10 == 9:
                fail(journal, name, State.FAILED, Cause.TIMEOUT, "Took longer than it may.")
            else:
                sizes = rng.lognormal(3, 0.2, 2)
                finish(journal, name, facts(*map(float, sizes)), (shots[number % 8],))
        enter(journal, "last", State.REFUSED, f"a reason {number}")
    page = report.write(tmp_path)
    browser.open(page.as_uri())
    assert browser.one("#count").text == "1001 rows"
    assert 60 <= len(browser.names()) < 400  # the others are made when they are scrolled to

    def scrolled() -> bool:
        browser.run("window.scrollTo(0, document.body.scrollHeight)")
        return bool(browser.run("return document.querySelectorAll('#cases .open').length") == 1001)

    browser.until(scrolled, "all rows", seconds=120)
    assert len(set(browser.names())) == 1001
    start = time.monotonic()
    browser.one('th[data-column="ml:top"] button').click()
    browser.one("#search").send_keys("c099")
    assert len(browser.names()) == 10
    assert time.monotonic() - start < 20  # seconds: it hangs otherwise
    assert browser.complaints() == []


def test_no_patient_is_in_it(browser: Browser, tmp_path: Path) -> None:
    """Paths and what stands in headers never reach the page."""
    folder = tmp_path / PATIENT
    folder.mkdir()
    with recording(folder) as journal:
        finish(journal, "a1b2", facts(1.0, 2.0), (take_snapshot(folder, "a1b2"),))
    page = report.write(folder)
    assert PATIENT.encode() not in page.read_bytes()
    browser.open(page.as_uri())
    assert PATIENT not in browser.one("body").text


def test_a_run_is_watched(browser: Browser, tmp_path: Path) -> None:
    with recording(tmp_path) as journal:
        enter(journal, "first")
        finish(journal, "done", facts(1.0, 2.0), (take_snapshot(tmp_path, "done"),))
        with serving(tmp_path) as address:
            browser.open(address)
            browser.until(lambda: sorted(browser.names()) == ["done", "first"], "both rows")
            browser.one('#cases tr[data-key="first"] .open').send_keys(Keys.NULL)
            finish(journal, "first", facts(1.5, 2.5))
            done = '#cases tr[data-key="first"][data-state="done"]'
            browser.until(lambda: browser.all(done), "the newest state")
            browser.open_case("done")
            browser.until(lambda: coloured(browser.pixels("#viewer")).any(), "a coloured mask")
            assert browser.complaints() == []
            hosts = {url.split("/")[2] for url in browser.requests() if url.startswith("http")}
            assert hosts == {address.split("/")[2]}
        unanswered = "return document.getElementById('live').textContent"
        browser.until(lambda: "not answer" in browser.run(unanswered), "the end of the server")

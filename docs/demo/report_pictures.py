"""Draw the pictures of ``docs/report.md``: the report of a run, as a browser shows it.

    python docs/demo/report_pictures.py

Needs the extras ``demo`` and ``dev``, and chromium with chromedriver. The crops are the left and
the right hippocampus of the MNI152 T1 template (see ``hospital_tree.py``), stretched, turned and
with noise, one of them much too large; among them lie a cut file and the whole template.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from hospital_tree import CROP_MM, HIPPOCAMPUS_MM, TEMPLATE, _package
from PIL import Image
from scipy import ndimage
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from nestseg.cli.segment import Manner
from nestseg.cli.segment import run as segment
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

IMAGES = Path(__file__).parents[1] / "images"
CASES = 12
LARGE = 7  # this one is stretched
SIZE = "--window-size=1360,940"


def main() -> None:
    """Write ``docs/images/report.png`` and ``docs/images/report_case.png``."""
    with tempfile.TemporaryDirectory() as work:
        source, out = Path(work, "in"), Path(work, "out")
        source.mkdir()
        build(source)
        segment([source], "hippocampus_unetpp", out, manner=Manner(workers=0))
        browse(out / "report.html")


def build(source: Path) -> None:
    """Write the crops, a cut one and the whole template."""
    template = _package("nilearn") / TEMPLATE
    image = nib.load(template)
    rng = np.random.default_rng(5)
    for number in range(CASES):
        side = "left" if number % 2 else "right"
        stretch = rng.uniform(0.93, 1.07, 3) * (1.3 if number == LARGE else 1)
        crop = cut(image, -1 if number % 2 else 1, stretch, rng.normal(0, 0.05, 3))
        noisy = crop.array + rng.normal(0, 6, crop.shape)
        scan = Volume(np.clip(noisy, 0, 4095).astype(np.int16), crop.affine)
        write_nifti(scan, source / f"{side}_{number:02d}.nii.gz")
    whole = (source / "right_00.nii.gz").read_bytes()
    (source / "cut_short.nii.gz").write_bytes(whole[: len(whole) // 2])
    shutil.copy(template, source / "whole_head.nii.gz")


def cut(image: nib.Nifti1Image, side: int, stretch: np.ndarray, turn: np.ndarray) -> Volume:
    """A crop around one hippocampus, changed; the grid stays."""
    centre = np.linalg.inv(image.affine) @ [side * HIPPOCAMPUS_MM[0], *HIPPOCAMPUS_MM[1:], 1]
    small = np.eye(3) + np.cross(np.eye(3), turn)  # a rotation by a few degrees
    matrix = small @ np.diag(1 / stretch)
    middle = (np.array(CROP_MM) - 1) / 2
    values = ndimage.affine_transform(
        np.asarray(image.dataobj, dtype=np.float32),
        matrix,
        centre[:3] - matrix @ middle,
        output_shape=CROP_MM,
        order=1,
    )
    affine = image.affine.copy()
    affine[:3, 3] = (image.affine @ [*(centre[:3] - middle), 1])[:3]
    return Volume(values, affine)


def browse(page: Path) -> None:
    """Look at the report and at a case in it."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for option in ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", SIZE):
        options.add_argument(option)
    options.add_argument("--enable-unsafe-swiftshader")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        time.sleep(1)
        save(driver.get_screenshot_as_png(), IMAGES / "report.png")
        driver.find_element(By.CSS_SELECTOR, f'tr[data-key] img[alt*="_{LARGE:02d}"]').click()
        shown = "return Boolean(document.querySelector('.stage').dataset.shown)"
        while not driver.execute_script(shown):
            time.sleep(0.2)
        time.sleep(2)
        save(driver.get_screenshot_as_png(), IMAGES / "report_case.png")
    finally:
        driver.quit()


def save(png: bytes, path: Path) -> None:
    """Without the alpha channel, as small as PNG gets."""
    Image.open(io.BytesIO(png)).convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

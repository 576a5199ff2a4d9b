"""The two wheels: nestseg is small and runs without the other, which holds the trained bundles."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/inference.json"))
CODE = "import sys\nfrom nestseg.cli import main\nsys.exit(main())"


def built(project: Path, out: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return wheel


def unpacked(wheel: Path, site: Path) -> Path:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    return site


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def site(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small wheel, installed."""
    return unpacked(small, tmp_path_factory.mktemp("site"))


def nestseg(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", CODE, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site)},
    )


def test_the_wheel_of_the_code_has_less_than_a_megabyte(small: Path) -> None:
    assert small.stat().st_size < 10**6


def test_without_the_bundles_one_line_says_how_to_get_them(site: Path, tmp_path: Path) -> None:
    done = nestseg(site, tmp_path, "bundle", "list")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "pip install nestseg-bundles" in line
    done = nestseg(site, tmp_path, "segment", "x", "-b", OURS[0], "-o", "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{OURS[0]}: no such bundle" in line
    assert "pip install nestseg-bundles" in line


def test_recipes_render_with_the_fragments_of_the_small_wheel(site: Path) -> None:
    here = ROOT / "bundles" / "_parts"
    there = site / "nestseg" / "_bundles" / "_parts"
    assert {p.name: p.read_bytes() for p in here.iterdir()} == {
        p.name: p.read_bytes() for p in there.iterdir()
    }


def test_the_page_of_the_report_is_made_from_files_of_both_wheels(site: Path) -> None:
    here = ROOT / "pipeline" / "nestseg" / "report" / "static"
    there = site / "nestseg" / "report" / "static"
    assert {p.name for p in here.iterdir()} - {p.name for p in there.iterdir()} == {"niivue.umd.js"}


@pytest.mark.slow
def test_the_second_wheel_brings_every_bundle_and_the_viewer(small: Path, tmp_path: Path) -> None:
    site = unpacked(small, tmp_path / "site")
    bundles = built(ROOT / "bundles", tmp_path)
    unpacked(bundles, site)
    code = (
        "from nestseg.bundle import locate, trust\n"
        "from nestseg.report.page import _viewer\n"
        "assert len(_viewer()) == 1\n"
        "for name in locate.names(): print(name, trust.is_ours(locate.find(name)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
    )
    assert done.stdout.splitlines() == [f"{name} True" for name in OURS]

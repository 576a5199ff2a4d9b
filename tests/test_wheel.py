"""The wheel holds both packages and the bundles, and finds them."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_bundles_come_with_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from nestseg.bundle import locate\n"
        "print(locate.home(), *locate.names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    home, *names = done.stdout.split()
    assert home == str(site / "nestseg" / "_bundles")
    parts = sorted(path.name for path in (ROOT / "bundles" / "_parts").iterdir())
    assert parts == sorted(p.name for p in (site / "nestseg" / "_bundles" / "_parts").iterdir())
    ours = sorted(p.name for p in (ROOT / "bundles").iterdir() if p.is_dir())
    assert names == [name for name in ours if name[0] != "_"]
    static = site / "nestseg" / "report" / "static"  # the report's page is made from these
    here = ROOT / "pipeline" / "nestseg" / "report" / "static"
    assert sorted(p.name for p in static.iterdir()) == sorted(p.name for p in here.iterdir())

"""Bundles that are handed on: manifest, export and zip files."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from nestseg.bundle import archive, locate, manifest
from nestseg.bundle.export import export
from nestseg_prep.errors import InputError

BUNDLE = "hippocampus_unetpp"
OURS = locate.find(BUNDLE)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a committed bundle, to be spoilt."""
    return Path(shutil.copytree(OURS, tmp_path / BUNDLE))


def test_a_bundle_that_is_changed_after_its_export_is_refused(tmp_path: Path) -> None:
    made = export(OURS, tmp_path)
    assert manifest.check(made, demanded=True) == []
    (made / "docs" / "README.md").write_text("other")
    (made / "LICENSE").unlink()
    (made / "docs" / "more.txt").touch()
    found = sorted(finding.line for finding in manifest.check(made, demanded=False))
    assert [line.split(";")[0] for line in found] == [
        "LICENSE: is missing",
        f"docs/README.md: is not the file that {manifest.NAME} lists",
        f"docs/more.txt: is not in {manifest.NAME}",
    ]


def test_a_missing_manifest_is_an_error_where_one_is_demanded(bundle: Path) -> None:
    assert manifest.check(bundle, demanded=False) == []
    assert len(manifest.check(bundle, demanded=True)) == 1


def test_the_zip_file_of_a_bundle_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    first = export(OURS, tmp_path / "a.zip")
    copy = Path(shutil.copytree(OURS, tmp_path / "copy" / BUNDLE, copy_function=shutil.copyfile))
    (copy / "runs").mkdir()
    (copy / "runs" / "events.log").touch()
    (copy / "configs" / "__pycache__").mkdir()
    second = export(copy, tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    with archive.opened(first) as folder:
        assert folder.name == BUNDLE
        assert manifest.check(folder, demanded=True) == []
    assert not folder.exists()


def test_an_export_never_overwrites_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "taken.zip").write_text("mine")
    with pytest.raises(InputError, match="there already"):
        export(OURS, tmp_path / "taken.zip")
    with pytest.raises(InputError, match="no bundle"):
        export(tmp_path, tmp_path / "new.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["taken.zip"]


def link() -> zipfile.ZipInfo:
    item = zipfile.ZipInfo("b/link")
    item.external_attr = (stat.S_IFLNK | 0o777) << 16
    return item


@pytest.mark.parametrize(
    "item",
    [
        *(
            "b/../../escaped.txt",
            "/escaped.txt",
            "b\\..\\..\\escaped.txt",
            "c:/x",
            link(),
            "other/x",
        ),
        *("b/\x1b[2J", "b/LICENSE/x", "b/" + "x" * 300, "b/" + "x/" * 5000),
    ],
)
def test_a_zip_file_that_reaches_out_of_its_folder_is_not_unpacked(
    tmp_path: Path, item: str | zipfile.ZipInfo
) -> None:
    path = tmp_path / "in" / "b.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("b/LICENSE", "")
        made.writestr(item, "/etc/passwd")
    with pytest.raises(InputError, match=r"b\.zip: "), archive.opened(path):
        pass
    assert [found.name for found in tmp_path.rglob("*")] == ["in", "b.zip"]


def test_a_zip_file_with_damaged_contents_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("b/LICENSE", "words " * 1000)
    content = bytearray(path.read_bytes())
    content[39:49] = b"\xff" * 10  # after the header of the first file and its name
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.zip: no bundle folder"), archive.opened(path):
        pass

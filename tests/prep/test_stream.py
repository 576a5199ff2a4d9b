"""Series handed out during the walk: what stands at its end is what a whole scan finds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nestseg_prep import phantom
from nestseg_prep.dicom import header_text
from nestseg_prep.dicom.headers import read_header
from nestseg_prep.dicom.references import OtherFile, SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.dicom.stream import Found, stream
from nestseg_prep.phantom import Phantom
from nestseg_prep.phantom.enhanced import as_enhanced


def hospital(root: Path) -> Path:
    """Two patients, loose files, an archive, a damaged file, and notes."""
    phantom.write(Phantom(name="a", slices=5).datasets(), root / "a" / "1")
    phantom.write(Phantom(name="b", slices=4).datasets(), root / "b")
    phantom.write(Phantom(name="c", slices=4).datasets(), root / "packed")
    shutil.make_archive(str(root / "c"), "zip", root / "packed")
    shutil.rmtree(root / "packed")
    phantom.write(Phantom(name="d", slices=3).datasets(), root)
    damaged = phantom.write(Phantom(name="e", slices=4).datasets(), root / "e")
    damaged[1].write_bytes(damaged[1].read_bytes()[:300])
    (root / "b" / "notes.txt").write_text("nothing")
    return root


def final(found: list[Found]) -> tuple[dict[str, SeriesRef], list[OtherFile]]:
    """What stands when everything was handed out."""
    series: dict[str, SeriesRef] = {}
    others: list[OtherFile] = []
    for one in found:
        for key in one.replaces:
            del series[key]
        for ref in one.series:
            assert ref.key not in series
            series[ref.key] = ref
        others += one.others
    return series, others


def assert_same(root: Path, found: list[Found], tmp_path: Path) -> None:
    whole = scan(root, unpack_to=tmp_path / "whole")
    series, others = final(found)
    assert sorted(series) == sorted(ref.key for ref in whole.series)
    for ref in whole.series:
        other = series[ref.key]
        assert (other.findings, other.shape, len(other.files)) == (
            *(ref.findings, ref.shape, len(ref.files)),
        )
    assert sorted(str(one.path) for one in others) == sorted(str(o.path) for o in whole.others)


def test_series_come_before_the_walk_ends_and_are_those_of_a_scan(tmp_path: Path) -> None:
    root = hospital(tmp_path / "in")
    seen: list[int] = []
    found, files_at = [], []
    for one in stream([root], unpack_to=tmp_path / "unpacked", on_file=seen.append):
        found.append(one)
        files_at.append(len(seen))
    first = next(at for one, at in zip(found, files_at, strict=True) if one.series)
    assert first < len(seen) - 10
    assert not any(one.replaces for one in found)
    assert_same(root, found, tmp_path)


@pytest.mark.parametrize("where", ["another folder", "the top"])
def test_a_series_that_goes_on_elsewhere_is_judged_again(tmp_path: Path, where: str) -> None:
    root = hospital(tmp_path / "in")
    last = max((root / "a" / "1").iterdir())
    target = root / "z" if where == "another folder" else root
    target.mkdir(exist_ok=True)
    last.rename(target / "late.dcm")
    found = list(stream([root], unpack_to=tmp_path / "unpacked"))
    assert_same(root, found, tmp_path)
    (again,) = [one for one in found if one.replaces]
    sizes = {ref.key: len(ref.files) for ref in again.series}
    early = {ref.key: len(ref.files) for one in found[:-1] for ref in one.series}
    assert any(sizes.get(key) == early[key] + 1 for key in again.replaces)
    whole = list(stream([root], unpack_to=tmp_path / "unpacked2", whole=True))
    assert not any(one.replaces for one in whole)
    assert_same(root, whole, tmp_path / "2")


def test_folders_that_hold_nothing_but_a_folder_do_not_hold_everything_up(tmp_path: Path) -> None:
    hospital(tmp_path / "in" / "export" / "DICOM")
    root = tmp_path / "in"
    found = list(stream([root], unpack_to=tmp_path / "unpacked"))
    assert sum(bool(one.series) for one in found) > 3
    assert_same(root, found, tmp_path)


@pytest.mark.parametrize("kind", ["plain", "enhanced"])
def test_a_header_comes_back_from_text_as_it_was(tmp_path: Path, kind: str) -> None:
    series = Phantom(slices=3).datasets()
    if kind == "enhanced":
        series = [as_enhanced(series)]
    for path in phantom.write(series, tmp_path):
        header = read_header(path)
        again = header_text.load(header_text.dump(header), path)
        assert vars(again) | {"frames": ()} == vars(header) | {"frames": ()}
        assert [vars(frame) for frame in again.frames] == [vars(f) for f in header.frames]
    with pytest.raises(ValueError, match="unpack"):
        header_text.load("[1, 2]", path)

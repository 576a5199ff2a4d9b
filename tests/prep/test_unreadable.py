"""What cannot be read is never taken for absent: it is named, and whatever may need it is told."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from nestseg.cli.deidentify import run as deidentify
from nestseg.pacs.send import dicom_files
from nestseg_prep import phantom
from nestseg_prep.dicom import walk
from nestseg_prep.dicom.classify import classify
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.headers import read_header
from nestseg_prep.dicom.scan import scan
from nestseg_prep.dicom.stream import stream
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom

CT = Phantom()
OTHER = Phantom(name="other", origin=(50.0, -80.0, 200.0))
ERRORS = [errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM, errno.ETIMEDOUT]


@pytest.fixture
def fails(monkeypatch):
    """Makes a function of the system fail for every path that ends in a text."""

    def inject(module, name, end, number, calls=0):
        real, seen = getattr(module, name), []

        def broken(path, *arguments, **options):
            if isinstance(path, str | Path) and str(path).endswith(end):
                seen.append(path)
                if len(seen) > calls:
                    raise OSError(number, os.strerror(number), str(path))
            return real(path, *arguments, **options)

        monkeypatch.setattr(module, name, broken)

    return inject


def assert_refused_for(result, number, kind="file"):
    (other,) = result.others
    assert other.finding.code is Code.UNREADABLE
    assert (other.finding.detail, other.kind) == (errno.errorcode[number], kind)
    (ref,) = result.series
    assert ref.refusal.code is Code.UNREADABLE_MEMBER


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("nothing", errno.ENOENT),
        ("0011.dcm", errno.ELOOP),
        ("0000.dcm/x", errno.ENOTDIR),
        ("/proc/self/mem", errno.EIO),
    ],
)
def test_a_link_that_leads_nowhere_refuses_the_series_it_lies_in(target, number, tmp_path):
    last = phantom.write(CT.datasets(), tmp_path)[-1]
    last.unlink()
    last.symlink_to(target)
    result = scan(tmp_path)
    assert_refused_for(result, number)
    assert not result.unseen


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_slice_that_the_system_cannot_read_refuses_its_series(call, number, fails, tmp_path):
    phantom.write(CT.datasets(), tmp_path)
    fails(os if call == "stat" else io, call, "0011.dcm", number)
    assert_refused_for(scan(tmp_path), number)


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["stat", "scandir"])
def test_a_folder_that_cannot_be_read_is_told_and_nothing_else_is_lost(
    call, number, fails, tmp_path
):
    for name, source in (("a", CT), ("b", OTHER)):
        phantom.write(source.datasets(), tmp_path / name)
    fails(os, call, "/b", number)
    result = scan(tmp_path)
    assert len(result.accepted) == 1
    assert [one.finding.detail for one in result.unseen] == [errno.errorcode[number]]
    assert result.to_json()["others"] == {"unreadable": 1}


def test_a_link_that_may_lead_to_a_folder_counts_as_one_that_was_not_seen(fails, tmp_path):
    phantom.write(CT.datasets(), tmp_path / "in" / "a")
    phantom.write(OTHER.datasets(), tmp_path / "share")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "share")
    fails(os, "stat", "link", errno.ESTALE)
    (unseen,) = scan(tmp_path / "in").unseen
    assert unseen.kind == "unknown"


def test_a_listing_that_breaks_off_gives_no_half_of_a_series(monkeypatch, tmp_path):
    phantom.write(CT.datasets(), tmp_path)
    real = os.scandir

    class Half:
        def __init__(self, path):
            self.entries = real(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.entries.close()

        def __iter__(self):
            yield next(self.entries)
            yield next(self.entries)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "scandir", Half)
    result = scan(tmp_path)
    assert not result.series
    assert [one.kind for one in result.unseen] == ["folder"]


def test_a_closed_folder_next_to_slices_is_a_warning(fails, tmp_path):
    phantom.write(CT.datasets(), tmp_path)
    (tmp_path / "closed").mkdir()
    fails(os, "scandir", "closed", errno.EACCES)
    (ref,) = scan(tmp_path).accepted
    assert [finding.code for finding in ref.findings] == [Code.UNREADABLE_NEIGHBOUR]


def test_an_input_that_cannot_be_read_is_told_and_one_that_is_not_there_is_an_error(
    fails, tmp_path
):
    phantom.write(CT.datasets(), tmp_path / "a")
    with pytest.raises(InputError, match="no such file or folder"):
        scan([tmp_path / "a", tmp_path / "b"])
    (tmp_path / "b").symlink_to("b")
    with pytest.raises(InputError, match="no such file or folder"):
        scan([tmp_path / "a", tmp_path / "b"])
    fails(os, "stat", "/b", errno.EACCES)
    result = scan([tmp_path / "a", tmp_path / "b"])
    assert len(result.accepted) == len(result.unseen) == 1


def test_an_archive_that_cannot_be_read_counts_as_a_folder(fails, tmp_path):
    phantom.write(CT.datasets(), tmp_path / "study")
    shutil.make_archive(str(tmp_path / "in" / "study"), "zip", tmp_path / "study")
    fails(io, "open", "study.zip", errno.EIO)
    (unseen,) = scan(tmp_path / "in", unpack_to=tmp_path / "unpacked").unseen
    assert (unseen.finding.detail, unseen.kind) == ("EIO", "folder")


def test_a_nifti_file_that_the_disk_does_not_give_is_not_called_damaged(fails, tmp_path):
    (tmp_path / "image.nii.gz").symlink_to("/proc/self/mem")
    (ref,) = scan(tmp_path).series
    assert (ref.refusal.code, ref.refusal.detail) == (Code.UNREADABLE, "EIO")


def test_a_slice_that_is_lost_while_a_series_is_judged_again_refuses_it(fails, tmp_path):
    """A series in two folders is judged at the end of the walk, from headers read once more."""
    paths = phantom.write(CT.datasets(), tmp_path / "a")
    (tmp_path / "b").mkdir()
    paths[0].rename(tmp_path / "b" / paths[0].name)
    fails(io, "open", "a/0011.dcm", errno.EIO, calls=1)
    *_, last = stream([tmp_path])
    (ref,) = last.series
    assert ref.refusal.code in {Code.UNREADABLE_MEMBER, Code.UNREADABLE_NEIGHBOUR}


def test_copies_that_can_no_longer_be_compared_stop_no_scan(fails, tmp_path):
    phantom.write(phantom.with_copy(5)(CT.datasets()), tmp_path)
    fails(io, "open", "0005.dcm", errno.EIO, calls=1)
    (ref,) = scan(tmp_path).series
    assert ref.refusal.code is Code.DUPLICATE_POSITION


def test_a_file_that_vanishes_after_it_was_found_is_named(tmp_path):
    (path,) = phantom.write(CT.datasets()[:1], tmp_path)
    (entry,) = walk.files_below([tmp_path], None)
    path.unlink()
    found = classify(entry, pictures=False, read_header=read_header)
    assert (found.finding.code, found.finding.detail) == (Code.UNREADABLE, "ENOENT")


@pytest.fixture
def deepest():
    """A folder 1,200 levels down, deeper than Python's stack; in memory where there is such a disk.

    ``shutil.rmtree`` calls itself for each level, and could not remove it.
    """
    memory = Path("/dev/shm")  # noqa: S108  a folder of our own in it
    top = folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    for _ in range(1200):
        folder = folder / "x"
        folder.mkdir()
    yield folder
    for path in folder.iterdir():
        path.unlink()
    while folder != top.parent:
        folder.rmdir()
        folder = folder.parent


def test_folders_in_each_other_are_walked_to_any_depth(deepest):
    phantom.write(CT.datasets()[:3], deepest)
    top = deepest.parents[1199]
    for found in (scan(top), next(one for one in stream([top]) if one.series)):
        (ref,) = found.series
        assert ref.accepted
        assert len(ref.files) == 3
    assert len(dicom_files([top])) == 3


def test_folders_too_deep_for_the_system_are_told(tmp_path, monkeypatch):
    phantom.write(CT.datasets(), tmp_path / "near")
    monkeypatch.chdir(tmp_path)
    for _ in range(18):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    monkeypatch.chdir(tmp_path)
    result = scan(tmp_path)
    assert len(result.accepted) == 1
    assert [(one.finding.detail, one.kind) for one in result.unseen] == [("ENAMETOOLONG", "folder")]


def test_other_commands_leave_out_nothing_without_a_word(tmp_path, capsys):
    phantom.write(Phantom(slices=3).datasets(), tmp_path / "in" / "a")
    (tmp_path / "in" / "a" / "lost.dcm").symlink_to(tmp_path / "nowhere")
    assert deidentify([tmp_path / "in"], tmp_path / "out", pixels_checked=False) == 1
    assert "1 left out: each cannot be read (ENOENT)" in capsys.readouterr().err
    unread: list[str] = []
    assert len(dicom_files([tmp_path / "in"], unread.append)) == 3
    assert unread == ["ENOENT"]

"""Zip and tar files as input: read like folders, or refused before they do harm."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from nestseg_prep import phantom
from nestseg_prep.dicom import archives
from nestseg_prep.dicom.archives import ArchiveError, Limits, unpack
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".tar.bz2": "w:bz2"}


def packed(folder, archive):
    """Packs a folder into an archive of the kind that its name says."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for path in files:
                target.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, TARS["".join(archive.suffixes)]) as target:
            target.add(folder, "study")
    return archive


def tar_of(path, *members):
    with tarfile.open(path, "w") as target:
        for info, content in members:
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_a_study_in_an_archive_is_read_as_the_folder_is(suffix, tmp_path):
    source = Phantom("oblique")
    phantom.write(source.datasets(), tmp_path / "study" / "Mü^ller")
    write_nifti(source.truth, tmp_path / "study" / "image.nii.gz")
    archive = packed(tmp_path / "study", tmp_path / f"study{suffix}")
    result = scan(archive, unpack_to=tmp_path / "unpacked")
    assert [(ref.kind, ref.accepted) for ref in result.series] == [("dicom", True), ("nifti", True)]
    for ref in result.series:
        np.testing.assert_array_equal(read_volume(ref).array, source.truth.array)
    names = {path.name for path in (tmp_path / "unpacked").rglob("*")}
    assert not any("ller" in name or "image" in name for name in names)
    again = scan(archive, unpack_to=tmp_path / "elsewhere")
    assert [ref.key for ref in again.series] == [ref.key for ref in result.series]


def test_an_archive_in_a_folder_is_named_or_opened_and_never_one_within_another(tmp_path):
    phantom.write(Phantom().datasets(), tmp_path / "study")
    packed(tmp_path / "study", tmp_path / "inner.zip")
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "folder" / "outer.zip", "w") as outer:
        outer.write(tmp_path / "inner.zip", "inner.zip")
    assert [other.finding.code for other in scan(tmp_path / "folder").others] == [Code.ARCHIVE]
    result = scan(tmp_path / "folder", unpack_to=tmp_path / "unpacked")
    assert [other.finding.code for other in result.others] == [Code.ARCHIVE]
    assert not result.series


HOSTILE = ("../out", "/etc/out", "a/../../out", "C:/out", "..\\out")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_left(kind, name, tmp_path):
    path = tmp_path / f"evil.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("good", b"good")
            target.writestr(zipfile.ZipInfo(name), b"evil")
    else:
        tar_of(path, (tarfile.TarInfo("good"), b"good"), (tarfile.TarInfo(name), b"evil"))
    with pytest.raises(ArchiveError, match="leads out"):
        unpack(path, tmp_path / "unpacked")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_file_are_refused(kind, tmp_path):
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ArchiveError, match="link or a device"):
        unpack(tar_of(tmp_path / "a.tar", (info, b"")), tmp_path / "unpacked")


def test_links_in_a_zip_file_and_encrypted_members_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as target:
        target.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link or a device"):
        unpack(tmp_path / "link.zip", tmp_path / "unpacked")
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as target:
        target.writestr("member", b"secret")
    content = bytearray((tmp_path / "plain.zip").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(ArchiveError, match="encrypted"):
        unpack(tmp_path / "locked.zip", tmp_path / "unpacked")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz"])
def test_a_bomb_is_stopped_by_its_ratio(suffix, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "zeros").write_bytes(bytes(2**23))
    archive = packed(tmp_path / "study", tmp_path / f"bomb{suffix}")
    assert archive.stat().st_size * 200 < 2**23
    with pytest.raises(ArchiveError, match="unpacks beyond"):
        unpack(archive, tmp_path / "unpacked", Limits(small_bytes=2**20))
    assert not (tmp_path / "unpacked").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_of_too_many_files_is_stopped(suffix, tmp_path):
    for number in range(5):
        (tmp_path / "study" / str(number)).mkdir(parents=True)
        (tmp_path / "study" / str(number) / "file").touch()
    archive = packed(tmp_path / "study", tmp_path / f"many{suffix}")
    assert len(unpack(archive, tmp_path / "unpacked", Limits(members=5))) == 5
    with pytest.raises(ArchiveError, match="more than 4 files"):
        unpack(archive, tmp_path / "again", Limits(members=4))


def test_a_directory_of_a_zip_file_that_would_fill_the_memory_is_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        for number in range(3):
            target.writestr(f"{number}" + "x" * 1500, b"")
    with pytest.raises(ArchiveError, match="more than 2 files"):
        unpack(tmp_path / "a.zip", tmp_path / "unpacked", Limits(members=2))


def test_a_header_of_a_tar_file_that_would_fill_the_memory_is_not_read(tmp_path):
    info = tarfile.TarInfo("long")
    info.type = tarfile.XHDTYPE
    archive = tar_of(tmp_path / "a.tar", (info, bytes(2**22)))
    with pytest.raises(ArchiveError, match="unpacks beyond"):
        unpack(archive, tmp_path / "unpacked", Limits(total_bytes=2**20))


def test_a_tar_file_that_ends_between_two_files_is_cut(tmp_path):
    members = [(tarfile.TarInfo(str(number)), bytes(1024)) for number in range(2)]
    archive = tar_of(tmp_path / "a.tar", *members)
    assert len(unpack(archive, tmp_path / "whole")) == 2
    archive.write_bytes(archive.read_bytes()[: 2 * (512 + 1024)])
    with pytest.raises(ArchiveError, match="cut"):
        unpack(archive, tmp_path / "unpacked")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_a_broken_archive_is_refused_wherever_it_is_cut(suffix, tmp_path):
    phantom.write(Phantom().datasets(), tmp_path / "study")
    archive = packed(tmp_path / "study", tmp_path / f"study{suffix}")
    content = archive.read_bytes()
    for share in (0, 0.01, 0.3, 0.6):
        archive.write_bytes(content[: int(len(content) * share)])
        result = scan(archive, unpack_to=tmp_path / f"unpacked {share}")
        assert [other.finding.code for other in result.others] == [Code.ARCHIVE_REFUSED]
        assert not result.series


def test_only_names_of_archives_are_archives(tmp_path):
    assert archives.is_archive(tmp_path / "STUDY.ZIP")
    assert not archives.is_archive(tmp_path / "image.nii.gz")
    assert not archives.is_archive(tmp_path / "slice.dcm.gz")

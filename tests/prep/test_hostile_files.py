"""Broken and hostile bytes: a scan ends with an answer, and nothing unpacks without limit."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.data import get_testdata_file

from nestseg_prep import phantom
from nestseg_prep.dicom import files
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.kinds import DECODED_SYNTAXES
from nestseg_prep.dicom.pixels import PixelError, stored_values
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless]


@given(
    syntax=st.sampled_from(SYNTAXES),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=30, deadline=None)
def test_changed_bytes_give_an_answer_or_an_input_error(syntax, changes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    paths = phantom.write(Phantom(columns=8, rows=8, slices=3).datasets(), folder, syntax=syntax)
    content = bytearray(paths[1].read_bytes())
    for where, value in changes:
        content[int(where * len(content))] = value
    paths[1].write_bytes(content)
    result = scan(folder)
    assert result.series or result.others
    for ref in result.accepted:
        with suppress(InputError):
            read_volume(ref)


def test_a_broken_run_length_is_an_input_error(tmp_path):
    """The decoder, written in Rust, panics on this one; a panic is not even an Exception."""
    paths = phantom.write(Phantom().datasets(), tmp_path, syntax=uid.RLELossless)
    content = bytearray(paths[0].read_bytes())
    start = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00") + 20) + 8
    content[start + 64 : start + 90] = b"\x7f" * 26
    paths[0].write_bytes(content)
    (ref,) = scan(tmp_path).accepted
    with pytest.raises(InputError, match="slice 1 of 12"):
        read_volume(ref)


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_bomb_is_not_unpacked(packing, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "UNPACKED_BYTES_LIMIT", 2**20)
    syntax = uid.DeflatedExplicitVRLittleEndian
    (path,) = phantom.write(Phantom().datasets()[:1], tmp_path, syntax=syntax)
    if packing == "gzip":
        (path,) = phantom.write(Phantom().datasets()[:1], tmp_path, name="plain{}".format)
        path.write_bytes(gzip.compress(path.read_bytes() + bytes(2**22)))
    else:
        with files.open_plain(path) as file:
            head = path.read_bytes()[: files.data_set_start(file)]
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        path.write_bytes(head + packer.compress(bytes(2**22)) + packer.flush())
    bombs = [other for other in scan(tmp_path).others if other.path == path]
    assert [bomb.finding.code for bomb in bombs] == [Code.UNREADABLE]
    assert bombs[0].finding.detail == "unpacks beyond the limit"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_lossless_gives_stored_values_rescaled_once(
    photometric, signed, tmp_path, misplacement
):
    """SimpleITK, which decodes it, would rescale and invert by itself if it were let."""
    source = Phantom(slices=3, columns=33, rows=40).datasets()
    for ds in source:
        stored = phantom.get_pixels(ds).astype(int) - (2000 if signed else 0)
        ds.PixelRepresentation = int(signed)
        phantom.set_pixels(ds, stored)
        ds.RescaleSlope, ds.PhotometricInterpretation = 2, photometric
    packed = [phantom.jpeg_lossless(ds) for ds in source]
    phantom.write(packed, tmp_path, syntax=uid.JPEGLosslessSV1)
    (ref,) = scan(tmp_path).accepted
    volume = read_volume(ref)
    assert misplacement(volume, source) < 1e-3
    assert np.issubdtype(volume.array.dtype, np.integer)


# Runs in a process of its own: what is measured is its memory, what must not happen is its death.
READ_MUTANTS = """
import json, sys
from pathlib import Path
from nestseg_prep.dicom.rules import Rules
from nestseg_prep.dicom.scan import scan
from nestseg_prep import process_memory
from nestseg_prep.errors import InputError
from nestseg_prep.reading import read_volume
counts = {"read": 0, "refused": 0}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    result = scan(folder, rules=Rules(fill_missing=True, min_slices=1))
    for ref in result.accepted:
        try:
            counts["read"] += bool(read_volume(ref).array.size)
        except InputError:
            counts["refused"] += 1
    counts["refused"] += len(result.series) - len(result.accepted) + len(result.others)
counts["bytes"] = process_memory.peak() or 0
print(json.dumps(counts))
"""
MUTATED_SYNTAXES = [
    uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless,
    uid.JPEGLosslessSV1,
]  # fmt: skip


def write_mutants(folder, count):
    """Single slices in every compression with 1 to 8 changed bytes, most of them in headers."""
    rng = np.random.default_rng(20261121)
    small = Phantom(columns=32, rows=32, slices=1).datasets()
    sources = []
    for number, syntax in enumerate(MUTATED_SYNTAXES):
        series = [phantom.jpeg_lossless(small[0])] if syntax == uid.JPEGLosslessSV1 else small
        (path,) = phantom.write(series, folder.parent / f"source{number}", syntax=syntax)
        sources.append(path.read_bytes())
    sources.append(gzip.compress(sources[0]))
    for number in range(count):
        content = bytearray(sources[number % len(sources)])
        end = len(content) if number % 3 == 0 else min(len(content), 1400)
        for _ in range(rng.integers(1, 9)):
            content[rng.integers(end)] = rng.choice([0, 0xFF, 0x7F, rng.integers(256)])
        (folder / f"{number:03d}").mkdir(parents=True)
        (folder / f"{number:03d}" / "mutant.dcm").write_bytes(content)


@pytest.mark.parametrize("count", [45, pytest.param(400, marks=pytest.mark.slow)])
def test_mutated_files_neither_kill_the_reader_nor_fill_the_memory(count, tmp_path):
    write_mutants(tmp_path / "mutants", count)
    command = [sys.executable, "-W", "ignore", "-c", READ_MUTANTS, str(tmp_path / "mutants")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=570, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)
    assert counts["read"] + counts["refused"] >= count
    assert counts["read"] > count / 20
    assert counts["refused"] > count / 20
    assert counts["bytes"] < 2 * 2**30


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLosslessSV1])
def test_a_code_stream_that_claims_to_be_huge_is_refused_before_it_is_decoded(syntax, tmp_path):
    series = Phantom(columns=32, rows=48, slices=3).datasets()
    if syntax == uid.JPEGLosslessSV1:
        series = [phantom.jpeg_lossless(ds) for ds in series]
    for path in phantom.write(series, tmp_path, syntax=syntax):
        content = path.read_bytes()
        pixels = content.index(b"\xe0\x7f\x10\x00")
        wide = 4 if syntax == uid.JPEG2000Lossless else 2
        sizes = [(32).to_bytes(wide, "big"), (48).to_bytes(wide, "big")]
        here = sizes[0] + sizes[1] if wide == 4 else sizes[1] + sizes[0]
        assert here in content[pixels:]
        content = content[:pixels] + content[pixels:].replace(
            here, b"\x00\x00\xf0\x00"[-wide:] * 2, 1
        )
        path.write_bytes(content)
    (ref,) = scan(tmp_path).accepted
    with pytest.raises(InputError, match="slice 1 of 3"):
        read_volume(ref)


def test_jpeg_of_twelve_bits_is_decoded_as_simpleitk_does_it_alone():
    path = Path(get_testdata_file("JPEG-lossy.dcm"))
    assert uid.JPEGExtended12Bit in DECODED_SYNTAXES
    with files.open_plain(path) as file:
        dataset = files.read_dataset(file)
    assert dataset.file_meta.TransferSyntaxUID == uid.JPEGExtended12Bit
    values = stored_values(dataset, 0)
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]
    slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
    np.testing.assert_array_equal(values * float(slope) + float(intercept), theirs)
    assert values.max() > 255


def test_a_decoder_is_never_given_another_size(tmp_path):
    (path,) = phantom.write(Phantom(slices=1).datasets(), tmp_path, syntax=uid.JPEGLSLossless)
    with files.open_plain(path) as file:
        dataset = files.read_dataset(file)
    dataset.Rows = 12
    with pytest.raises(PixelError, match="image of"):
        stored_values(dataset, 0)

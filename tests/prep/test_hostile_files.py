"""Broken and hostile bytes: a scan ends with an answer, and nothing unpacks without limit."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

from nestseg_prep import phantom
from nestseg_prep.dicom import files
from nestseg_prep.dicom.findings import Code
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

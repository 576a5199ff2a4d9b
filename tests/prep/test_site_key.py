"""The secret with which names are made: kept, private, and never mixed with another."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nestseg_prep import site_key
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom, write
from nestseg_prep.prepare import prepare


@pytest.fixture
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without ``NESTSEG_KEY``."""
    monkeypatch.delenv(site_key.VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return site_key.key_file()


def test_a_key_is_made_once_for_this_user_alone(own_key: Path) -> None:
    first = site_key.keyed_hash("1.2.3")
    assert stat.S_IMODE(own_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(own_key.parent.stat().st_mode) == 0o700
    site_key._key.cache_clear()
    assert site_key.keyed_hash("1.2.3") == first
    assert list(own_key.parent.iterdir()) == [own_key]


def test_processes_that_start_together_share_one_key(own_key: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: site_key._key.__wrapped__(None, own_key), range(16)))
    assert len(keys) == 1


def test_names_depend_on_the_key_and_on_their_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = site_key.keyed_hash("1.2.3")
    assert site_key.keyed_hash("1.2.3", purpose="uid") != ours
    monkeypatch.setenv(site_key.VARIABLE, "the key of another site")
    assert site_key.keyed_hash("1.2.3") != ours


def test_keys_of_series_are_stable_under_one_key_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Phantom().datasets(), tmp_path / "a")
    keys = [scan(tmp_path / "a").series[0].key for _ in range(2)]
    assert keys[0] == keys[1]
    monkeypatch.setenv(site_key.VARIABLE, "the key of another site")
    assert scan(tmp_path / "a").series[0].key != keys[0]


def test_results_under_two_keys_are_never_mixed_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Phantom().datasets(), tmp_path / "a")
    prepare(tmp_path / "a", tmp_path / "out")
    assert prepare(tmp_path / "a", tmp_path / "out").count("kept") == 1
    monkeypatch.setenv(site_key.VARIABLE, "the key of another site")
    with pytest.raises(InputError, match="another site key"):
        prepare(tmp_path / "a", tmp_path / "out")


def test_a_short_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(site_key.VARIABLE, "short")
    with pytest.raises(InputError, match="shorter than 16"):
        site_key.keyed_hash("1.2.3")


def test_a_state_folder_that_cannot_be_made_is_named_with_its_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv(site_key.VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set NESTSEG_KEY"):
        site_key.keyed_hash("1.2.3")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""The page as a file: nothing outside of it, nothing in it that runs but its own scripts."""

import hashlib
import json
import re
from base64 import b64decode, b64encode
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from nestseg import report
from nestseg.batch.read import read_view
from nestseg.batch.states import State
from nestseg.report import pictures
from nestseg.report.page import live_page, page
from nestseg.report.table import table

from .runs import enter, facts, finish, recording, take_snapshot

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&lt;"


class Elements(HTMLParser):
    """Every element of a page with its attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside = False
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1][2].append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]


def written(out: Path) -> Elements:
    return Elements(report.write(out).read_text(encoding="utf-8"))


def test_every_script_is_one_that_the_policy_names(run: Path) -> None:
    elements = written(run)
    (policy,) = [
        attributes["content"]
        for attributes, _ in elements.of("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy
    rules = dict(part.split(" ", 1) for part in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = [text for attributes, text in elements.of("script") if "type" not in attributes]
    styles = [text for _, text in elements.of("style")]
    for texts, rule in ((scripts, "script-src"), (styles, "style-src")):
        hashes = [b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert rules[rule].split() == [f"'sha256-{one}'" for one in hashes]
    for _, attributes, _ in elements.found:
        assert not {"src", "href", "action"} & attributes.keys() or attributes["href"] == "data:,"
        assert not any(name.startswith("on") or name == "style" for name in attributes)


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    with recording(tmp_path) as journal:
        journal.note(
            labels={1: HOSTILE}, bundle={"name": HOSTILE, "version": "1", "weights_sha256": "0"}
        )
        enter(journal, HOSTILE, State.REFUSED, HOSTILE)
    elements = written(tmp_path)
    assert not elements.of("img")
    assert [text for _, text in elements.of("h1")] == [HOSTILE]
    (data,) = [text for attributes, text in elements.of("script") if attributes.get("id") == "data"]
    assert json.loads(data)["rows"][0]["reason"] == HOSTILE


def test_the_viewer_is_the_published_one_to_the_byte() -> None:
    static = files("nestseg.report").joinpath("static")
    sums = dict(
        reversed(line.split()) for line in static.joinpath("SHA256SUMS").read_text().splitlines()
    )
    content = static.joinpath("niivue.umd.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == sums["niivue.umd.js"]
    assert len(content) < 3_000_000


def test_cases_with_flags_are_embedded_first(run: Path) -> None:
    made = table(read_view(run))
    everything = pictures.collect(made, run)
    assert list(everything.volumes) == ["case03", "case05", "case00", "case01", "case02", "case04"]
    assert everything.left_out == 0
    assert b64decode(everything.planes["case00"]).startswith(b"RIFF")
    room = sum(len(part) for key in ("case03", "case05") for part in everything.volumes[key])
    some = pictures.collect(made, run, volumes_bytes=room)
    assert list(some.volumes) == ["case03", "case05"]
    assert some.left_out == 4
    assert len(some.planes) == 6
    text = page(made, some)
    assert len(re.findall(r'class="volume"', text)) == 4
    assert "volumes of 4 cases are not in this page" in text
    assert "are not in this page" not in page(made, everything)
    nothing = pictures.collect(made, run, planes_bytes=0)
    assert not nothing.planes
    assert nothing.left_out == 6


def test_a_snapshot_that_is_lost_or_elsewhere_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outside = take_snapshot(tmp_path, "outside")
    with recording(out) as journal:
        for name in ("lost", "cut", "away"):
            shot = take_snapshot(out, name)
            if name == "away":
                shot = type(shot)(shot.role, f"../{outside.path}", outside.sha256, outside.size)
            finish(journal, name, facts(1, 1), (shot,))
    (out / "lost.snapshot").unlink()
    (out / "cut.snapshot").write_bytes(b"PK\x03\x04 half")
    report.write(out)
    assert not pictures.collect(table(read_view(out)), out).planes


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = report.write(run).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nestseg.report.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        report.write(run)
    assert (run / "report.html").read_bytes() == before
    assert not [path for path in run.iterdir() if "partial" in path.name]


def test_what_a_killed_report_left_is_tidied_up(run: Path) -> None:
    (run / ".report-partial-x1").write_text("half")
    report.write(run)
    assert not [path for path in run.iterdir() if "partial" in path.name]


def test_the_live_page_holds_no_pictures_and_asks_only_its_own_server(run: Path) -> None:
    text = live_page(table(read_view(run)))
    assert "connect-src &#39;self&#39;" in text
    assert 'type="text/plain"' not in text

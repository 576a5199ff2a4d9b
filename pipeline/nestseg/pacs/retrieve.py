"""A PACS → a folder: QIDO-RS finds series, WADO-RS fetches them. Files are numbered, not named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom.datadict import tag_for_keyword

from nestseg.pacs import extra
from nestseg.pacs.addresses import Web
from nestseg.pacs.send import web_client
from nestseg_prep.errors import InputError

_PAGE: Final = 100


@dataclass(frozen=True)
class Query:
    """Which series are fetched; at least one of the three narrows it down.

    Attributes:
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        match: keyword → value, as QIDO-RS compares them.
        modalities: series of others are not fetched; ``None`` for all.
    """

    study: str = ""
    series: str = ""
    match: dict[str, str] = field(default_factory=dict)
    modalities: Sequence[str] | None = None


@dataclass(frozen=True)
class Found:
    """A series that the server has."""

    study: str
    series: str
    modality: str
    instances: int


def matches(texts: Sequence[str]) -> dict[str, str]:
    """``["StudyDate=20260301-", …]`` as keyword → value.

    Raises:
        InputError: a text is no such pair, or its keyword is not DICOM's.
    """
    pairs = {}
    for text in texts:
        keyword, equals, value = text.partition("=")
        if not equals or not value or tag_for_keyword(keyword) is None:
            raise InputError(
                f"{keyword}: no search for a DICOM attribute; write it as StudyDate=20260301-"
            )
        pairs[keyword] = value
    return pairs


def find(web: Web, query: Query) -> list[Found]:
    """The series that fit a query.

    Raises:
        InputError: the query would fetch everything, or the server does not answer.
    """
    if not (query.study or query.series or query.match):
        raise InputError("the whole PACS was asked for; give --study, --series or --match")
    filters = dict(query.match)
    if query.series:
        filters["SeriesInstanceUID"] = query.series
    with _answering(web):
        found = [_found(item) for item in _pages(web_client(web), query.study, filters)]
    return [
        one for one in found if one.study and one.series and _wanted(one.modality, query.modalities)
    ]


def fetch(
    web: Web, series: Sequence[Found], into: Path, *, on_file: Callable[[int], None] | None = None
) -> None:
    """Write every object of some series into a folder, each series in a folder of its own.

    Raises:
        InputError: the server does not answer, or sends fewer objects than it says it has.
    """
    client = web_client(web)
    count = 0
    for number, one in enumerate(series):
        folder = into / f"{number:05}"
        folder.mkdir(mode=0o700)
        got = 0
        with _answering(web):
            # As they are stored: a server that converts may lose what we would refuse.
            objects = client.iter_series(
                one.study, one.series, media_types=(("application/dicom", "*"),)
            )
            for got, dataset in enumerate(objects, start=1):
                dataset.save_as(folder / f"{got:06}.dcm", enforce_file_format=True)
                count += 1
                if on_file is not None:
                    on_file(count)
        if got < one.instances:
            raise InputError(
                f"{web.url}: sent {got} of {one.instances} objects of a series; try again"
            )


def _pages(client: Any, study: str, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
    """All answers, however few of them the server gives at a time."""
    seen: set[str] = set()
    while True:
        page = client.search_for_series(
            study or None,
            fields=["NumberOfSeriesRelatedInstances"],
            search_filters=filters or None,
            limit=_PAGE,
            offset=len(seen),
        )
        new = [item for item in page if _value(item, "SeriesInstanceUID") not in seen]
        if not new:
            return
        seen |= {_value(item, "SeriesInstanceUID") for item in new}
        yield from new


def _found(item: dict[str, Any]) -> Found:
    count = _value(item, "NumberOfSeriesRelatedInstances")
    return Found(
        _value(item, "StudyInstanceUID"),
        _value(item, "SeriesInstanceUID"),
        _value(item, "Modality"),
        int(count) if count.isdigit() else 0,
    )


def _value(item: dict[str, Any], keyword: str) -> str:
    """A single value of DICOM JSON (PS3.18 F.2)."""
    values = item.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or [""]
    return str(values[0])


def _wanted(modality: str, modalities: Sequence[str] | None) -> bool:
    return modalities is None or not modality or modality in modalities


@contextmanager
def _answering(web: Web) -> Iterator[None]:
    """Whatever goes wrong on the wire, in one line without what was asked for."""
    extra.load("dicomweb_client")
    import requests  # noqa: PLC0415  comes with the extra

    try:
        yield
    except InputError:
        raise
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        mend = "put access into ~/.netrc" if status in (401, 403) else "check address and query"
        raise InputError(f"{web.url} answers with HTTP status {status}; {mend}") from None
    except requests.RequestException as error:
        kind = type(error).__name__
        raise InputError(f"{web.url} does not answer ({kind}); check the address") from None
    except ValueError as error:  # a UID or an answer that breaks the standard
        raise InputError(f"{web.url}: an answer or a UID is not DICOM's; check them") from error

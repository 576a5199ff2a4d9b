"""Which series are taken. Rules are data, in a bundle's config or a file, never code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import yaml

from nestseg_prep.affine import Orientation
from nestseg_prep.dicom import kinds
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError

_NONE: Final = "none"
_PLAIN: Final = {"CT": "HU", "MR": "magnitude"}


class Check(NamedTuple):
    """One rule held against one series.

    Attributes:
        rule: its name, for people.
        passed: whether the series fits.
        found: what the series has.
        wanted: what the rule takes.
        private: ``found`` is free text of a header, which may name a patient.
    """

    rule: str
    passed: bool
    found: str
    wanted: str
    private: bool = False

    def shown(self, *, show_phi: bool) -> str:
        """What the series has, unless it must not be shown."""
        return "not shown" if self.private and self.found != _NONE and not show_phi else self.found

    @property
    def sentence(self) -> str:
        """Why a series that does not pass is left out, without free text of its header."""
        found = "does not fit" if self.private and self.found != _NONE else self.found
        return f"{self.rule} {found}; the bundle takes {self.wanted}"


@dataclass(frozen=True)
class Decision:
    """What became of a series, and why.

    Attributes:
        ref: the series.
        checks: every rule that says something about a series of its kind, in order.
        passed_over: why another series of its study was taken; ``""`` if none was.
    """

    ref: SeriesRef
    checks: tuple[Check, ...]
    passed_over: str = ""

    @property
    def taken(self) -> bool:
        """Whether the series can be read, fits every rule and is the one of its study."""
        return self.ref.accepted and not self.reason

    @property
    def reason(self) -> str:
        """Why a readable series is not taken, in one sentence; ``""`` if it is."""
        missed = (check.sentence for check in self.checks if not check.passed)
        return next(missed, self.passed_over)


class Selection:
    """Rules for the series that are taken; a rule that is not given takes everything.

    Texts are compared as shells compare file names: ``*`` stands for anything, and case does not
    count. An empty text in a list takes series whose header says nothing. NIfTI files and pictures
    have no header of that kind: only rules of geometry can refuse them. For a NIfTI file the rules
    of modality and body part pass as unknown.

    Args:
        modalities: DICOM modalities.
        extent_mm: smallest and largest field of view along each axis, in mm. A network that was
            trained on crops answers nonsense on a whole head.
        pictures: PNG, TIFF and JPEG are taken.
        body_parts: BodyPartExamined.
        planes: ``axial``, ``coronal``, ``sagittal``, ``oblique``.
        slice_mm: smallest and largest distance of neighbouring slices, in mm.
        kernels: ConvolutionKernel of a CT.
        descriptions: SeriesDescription.
        not_descriptions: the same, for series that are left out.
        quantities: what values of CT and MR images are: names of ``kinds.QUANTITIES``, an empty
            text for plain ones (Hounsfield units, magnitude). Where ``modalities`` are given and
            this is not, plain ones alone are taken.
        unnamed: series that do not name their body part are taken too, where the other rules admit
            them: NIfTI files, and DICOM series without BodyPartExamined.
        one_per_study: of the series of a study that pass, take one: the first by these marks in
            turn, out of ``thinnest``, ``most_slices`` and ``newest``.

    Raises:
        InputError: a rule is not of its kind.

    Attributes:
        origin: where the rules come from, for people, if nobody wrote them down; else ``""``.
    """

    origin = ""

    def __init__(  # noqa: PLR0913  one argument for each rule of the file
        self,
        modalities: Sequence[str] | None = None,
        extent_mm: Sequence[float] | None = None,
        pictures: bool = False,
        *,
        body_parts: Sequence[str] | None = None,
        planes: Sequence[str] | None = None,
        slice_mm: Sequence[float] | None = None,
        kernels: Sequence[str] | None = None,
        descriptions: Sequence[str] | None = None,
        not_descriptions: Sequence[str] | None = None,
        quantities: Sequence[str] | None = None,
        unnamed: bool = True,
        one_per_study: Sequence[str] | None = None,
    ) -> None:
        self.modalities = _texts("modalities", modalities)
        self.extent_mm = _range("extent_mm", extent_mm)
        self.pictures = bool(pictures)
        self.body_parts = _texts("body_parts", body_parts)
        self.planes = _texts("planes", planes, get_args(Orientation))
        self.slice_mm = _range("slice_mm", slice_mm)
        self.kernels = _texts("kernels", kernels)
        self.descriptions = _texts("descriptions", descriptions)
        self.not_descriptions = _texts("not_descriptions", not_descriptions)
        self.quantities = _texts("quantities", quantities, ("", *kinds.QUANTITIES))
        self.unnamed = bool(unnamed)
        self.one_per_study = _texts("one_per_study", one_per_study, tuple(_MARKS))

    @classmethod
    def from_rules(cls, rules: Mapping[str, Any], source: str) -> Selection:
        """A selection from what a file says.

        Args:
            rules: argument → value.
            source: what to call the file in messages.

        Raises:
            InputError: a rule is unknown or not of its kind.
        """
        if unknown := sorted(set(rules) - set(RULES)):
            raise InputError(f"{source}: no such rule: {unknown[0]}; there are {', '.join(RULES)}")
        try:
            return cls(**rules)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    def changed(self, rules: Mapping[str, Any], source: str) -> Selection:
        """The same selection with some rules replaced; ``None`` drops one.

        Raises:
            InputError: a rule is unknown or not of its kind.
        """
        return self.from_rules({name: getattr(self, name) for name in RULES} | dict(rules), source)

    def checks(self, ref: SeriesRef) -> list[Check]:
        """Every rule that applies to a series, held against it."""
        if ref.kind == "picture":
            return [Check("kind", self.pictures, "picture", "volumes")]
        found = []
        if ref.kind == "dicom":
            found += [
                _matches("modality", ref.modality or "", self.modalities),
                _matches("body part", ref.body_part, self.body_parts, said=ref.body_part_said),
            ]
        else:
            found += [
                _unknown("modality", self.modalities),
                _unknown("body part", self.body_parts),
            ]
        if not self.unnamed and not ref.body_part_said:
            found.append(Check("body part", False, "not named", "series that name it"))
        found += [
            _matches("plane", ref.orientation or "", self.planes),
            _within("slice distance", [_slices(ref)[1]], self.slice_mm, "mm"),
            _within("field of view", _extent(ref), self.extent_mm, "mm each way"),
        ]
        if ref.kind == "dicom":
            description = _matches("description", ref.description, self.not_descriptions)
            plain = ("",) if self.modalities else None
            found += [
                _values(ref, self.quantities or plain),
                _matches("kernel", ref.kernel, self.kernels, private=True),
                _matches("description", ref.description, self.descriptions, private=True),
                description
                and description._replace(
                    passed=not description.passed,
                    wanted=f"none like {description.wanted}",
                    private=True,
                ),
            ]
        return [check for check in found if check]

    def why_not(self, ref: SeriesRef) -> str | None:
        """The reason why a series does not fit, in one sentence; ``None`` if it does.

        Of several series of a study each is judged by itself; see :meth:`decide`.
        """
        return next((check.sentence for check in self.checks(ref) if not check.passed), None)

    def decide(self, series: Iterable[SeriesRef]) -> list[Decision]:
        """Which series are taken, and why the others are not; in the order given."""
        decisions = [Decision(ref, tuple(self.checks(ref))) for ref in series]
        if not self.one_per_study:
            return decisions
        rivals: dict[str, list[SeriesRef]] = defaultdict(list)
        for one in decisions:
            if one.taken and one.ref.study_uid:  # without one nobody knows which study it is of
                rivals[one.ref.study_uid].append(one.ref)
        beaten: dict[int, str] = {}
        for refs in rivals.values():
            first, *rest = self._ranked(refs)
            beaten |= {id(ref): self._behind(ref, first) for ref in rest}
        return [replace(one, passed_over=beaten.get(id(one.ref), "")) for one in decisions]

    def _ranked(self, refs: Iterable[SeriesRef]) -> list[SeriesRef]:
        ranked = sorted(refs, key=lambda ref: ref.key)
        for name in reversed(self.one_per_study or ()):
            mark = _MARKS[name]
            ranked.sort(key=mark.value, reverse=mark.largest_first)
        return ranked

    def _behind(self, ref: SeriesRef, first: SeriesRef) -> str:
        for name in self.one_per_study or ():
            mark = _MARKS[name]
            if mark.value(ref) != mark.value(first):
                return f"series {first.key} of its study {mark.sentence}"
        return f"series {first.key} of its study is its equal and comes first"


RULES: Final = (
    "modalities",
    "body_parts",
    "planes",
    "slice_mm",
    "extent_mm",
    "kernels",
    "descriptions",
    "not_descriptions",
    "quantities",
    "unnamed",
    "pictures",
    "one_per_study",
)


def read_rules(path: Path) -> dict[str, Any]:
    """The rules of a YAML or JSON file, as plain data.

    Raises:
        InputError: the file cannot be read or holds no rules.
    """
    try:
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no YAML; write lines such as `modalities: [CT]`") from error
    if not isinstance(rules, dict) or not all(isinstance(name, str) for name in rules):
        raise InputError(f"{path}: holds no rules; write lines such as `modalities: [CT]`")
    return rules


class _Mark(NamedTuple):
    value: Callable[[SeriesRef], Any]
    largest_first: bool
    sentence: str


def _slices(ref: SeriesRef) -> tuple[int, float]:
    """Number of slices, and their distance in mm; zeros without geometry."""
    if ref.shape is None or ref.spacing is None:
        return 0, 0.0
    spacing = ref.spacing
    # A NIfTI file does not say along which axis it was sliced: the coarsest one.
    axis = 2 if ref.kind == "dicom" else max(range(3), key=lambda k: spacing[k])
    # Rounded to µm: what scanners lose in decimals must not decide.
    return ref.shape[axis], round(spacing[axis], 3)


def _extent(ref: SeriesRef) -> list[float]:
    if ref.shape is None or ref.spacing is None:
        return []
    return [count * mm for count, mm in zip(ref.shape, ref.spacing, strict=True)]


_MARKS: Final[dict[str, _Mark]] = {
    "thinnest": _Mark(lambda ref: _slices(ref)[1], False, "has thinner slices"),
    "most_slices": _Mark(lambda ref: _slices(ref)[0], True, "has more slices"),
    "newest": _Mark(lambda ref: ref.acquired, True, "is newer"),
}


def _matches(
    rule: str,
    text: str,
    patterns: Sequence[str] | None,
    *,
    private: bool = False,
    said: str = "",
) -> Check | None:
    """Hold a text, or what the header says in its place, against patterns; ``text`` is shown."""
    if patterns is None:
        return None
    texts = {text.casefold(), (said or text).casefold()}
    passed = any(fnmatchcase(one, wanted.casefold()) for one in texts for wanted in patterns)
    return Check(rule, passed, text or _NONE, ", ".join(one or _NONE for one in patterns), private)


def _unknown(rule: str, patterns: Sequence[str] | None) -> Check | None:
    """A rule about what a NIfTI file does not say: it passes, and people see why."""
    if patterns is None:
        return None
    return Check(rule, True, "unknown", ", ".join(one or _NONE for one in patterns))


def _values(ref: SeriesRef, names: Sequence[str] | None) -> Check | None:
    """What the values of a CT or MR are; other modalities have one quantity each."""
    if names is None or ref.modality not in _PLAIN:
        return None
    plain = _PLAIN[ref.modality]
    wanted = ", ".join(one or plain for one in names)
    return Check("values", ref.quantity in names, ref.quantity or plain, wanted)


def _within(
    rule: str, numbers: Sequence[float], ends: tuple[float, float] | None, unit: str
) -> Check | None:
    if ends is None or not numbers:
        return None
    low, high = ends
    found = "×".join(f"{number:.0f}" if number >= 100 else f"{number:.3g}" for number in numbers)
    passed = all(low <= number <= high for number in numbers)
    return Check(rule, passed, f"{found} mm", f"{low:g} to {high:g} {unit}")


def _texts(
    rule: str, value: Sequence[str] | None, allowed: Sequence[str] = ()
) -> tuple[str, ...] | None:
    if value is None:
        return None
    texts = tuple(value) if isinstance(value, list | tuple) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{rule}: not a list of texts; write it as `{rule}: [...]`")
    if allowed and (wrong := [text for text in texts if text not in allowed]):
        raise InputError(f"{rule}: no such value: {wrong[0]}; there are {', '.join(allowed)}")
    return texts


def _range(rule: str, value: Sequence[float] | None) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = tuple(value) if isinstance(value, list | tuple) else ()
    proper = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
    if len(numbers) != 2 or not proper or not numbers[0] <= numbers[1]:
        raise InputError(
            f"{rule}: not a smallest and a largest number; write it as `{rule}: [0.5, 3]`"
        )
    return float(numbers[0]), float(numbers[1])

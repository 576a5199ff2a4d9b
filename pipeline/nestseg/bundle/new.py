"""A new bundle for a labelled data set: fingerprint, plan, recipe, rendered configs."""

from __future__ import annotations

import json
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nestseg.bundle import backbone, choices, recipe
from nestseg.bundle.choices import Choice
from nestseg.bundle.plan import Plan, make_plan
from nestseg_prep import split
from nestseg_prep.errors import InputError, OutputError
from nestseg_prep.fingerprint import Fingerprint, fingerprint
from nestseg_prep.layouts import SPLITS, DataSet, LabelledCase, read_dataset

_COMMON = ("load_spacing", "network_unetpp")
_INTENSITY = {"CT": "hu_intensity"}
_ANY_INTENSITY = "mr_intensity"
_TRAIN = ("overlap_tile", "train", "augment_patches")
_EVALUATE = ("evaluate",)
_INFERENCE = ("overlap_tile", "select_inputs", "inference")
_METADATA = ("metadata", "metadata_labels")
PARTS_OF_NEW_BUNDLES = (
    *_COMMON,
    *_INTENSITY.values(),
    _ANY_INTENSITY,
    *_TRAIN,
    *_EVALUATE,
    *_INFERENCE,
    *_METADATA,
)
_WIDTH = 100
_CODE = str.maketrans("", "", "$@%#")  # what MONAI's config language would run or look up


@dataclass(frozen=True)
class NewBundle:
    """What was made.

    Attributes:
        data: the data set as its index describes it.
        labels: value → name.
        facts: its fingerprint.
        plan: what was chosen.
        split: name of a split → names of its cases.
    """

    data: DataSet
    labels: dict[int, str]
    facts: Fingerprint
    plan: Plan
    split: dict[str, tuple[str, ...]]


def new(
    dataset: Path,
    out: Path,
    memory: int,
    on_case: Callable[[str], None] = lambda _: None,
    network: str | None = None,
) -> NewBundle:
    """Make a bundle for a data set; nothing is left of it if that fails.

    Args:
        dataset: folder in one of the layouts of :mod:`nestseg_prep.layouts`; nothing is written
            there.
        out: folder of the bundle; must not exist.
        memory: bytes that a training step may take.
        on_case: called with the name of each case when it was read.
        network: a grid on an encoder, e.g. ``"unetpp_densenet121"``; default: one for the data.

    Raises:
        InputError: a data set that cannot be used, or too little memory.
        OutputError: ``out`` cannot be made.
    """
    _check_out(out, dataset)
    if network:
        backbone.parse(network)
    data = read_dataset(dataset)
    facts = fingerprint(data.cases, data.labels, on_case)
    labels = _labels(data, facts)
    parts = _split(data, facts)
    fixed = partial(backbone.network, network, classes=len(labels)) if network else None
    plan = make_plan(facts, len(labels), len(parts["train"]), memory, fixed)
    made = NewBundle(_plain(data), labels, facts, plan, parts)
    temporary = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        _write(made, temporary, out.name)
        temporary.rename(out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return made


def recipe_text(made: NewBundle) -> str:
    """The recipe ``bundle.yaml``: every choice has its reason above it."""
    plan, facts, data = made.plan, made.facts, made.data
    common = (*_COMMON, _INTENSITY.get(data.modality or "", _ANY_INTENSITY))
    shared = choices.shared(plan, facts, data)
    training = choices.training(plan, facts, made.labels, len(made.split["train"]))
    lines = [
        *_comment(
            f"Planned from {len(facts.cases)} cases of {data.name} for {plan.budget / 1e9:.3g} GB. "
            "Change what you know better, then render it again (docs/README.md).",
            "",
        ),
        "train:",
        _parts(*common, *_TRAIN),
        "  override:",
        *_lines(shared, anchor="&"),
        *_lines(training),
        "",
        "evaluate:",
        _parts(*_EVALUATE),
        "  overlay: true",
        "",
        "inference:",
        _parts(*common, *_INFERENCE),
        "  override:",
        *(f"    {choice.key}: *{_anchor(choice.key)}  # as in training" for choice in shared),
        *_lines(choices.selection(facts, data)),
        "",
        "metadata:",
        _parts(*_METADATA),
        "  override:",
        *_lines(choices.metadata(plan, facts, data, made.labels)),
    ]
    return "\n".join(lines) + "\n"


def _write(made: NewBundle, folder: Path, name: str) -> None:
    docs = folder / "docs"
    docs.mkdir()
    (folder / recipe.RECIPE).write_text(recipe_text(made), encoding="utf-8")
    recipe.write(folder)
    (folder / "datalist.json").write_text(_json(_datalist(made)), encoding="utf-8")
    (docs / "fingerprint.json").write_text(_json(made.facts.to_json()), encoding="utf-8")
    (docs / "README.md").write_text(_card(made, name), encoding="utf-8")
    licence = made.data.licence or "not stated: ask who made the data set before you pass this on."
    (docs / "data_license.txt").write_text(f"{made.data.name}: {licence}\n", encoding="utf-8")


def _datalist(made: NewBundle) -> dict[str, list[dict[str, str]]]:
    """Absolute paths: the bundle may move, and finds the data set where it was."""
    cases: dict[str, LabelledCase] = {case.name: case for case in made.data.cases}
    return {
        part: [{"image": str(cases[n].image), "label": str(cases[n].label)} for n in names]
        for part, names in made.split.items()
    }


def _card(made: NewBundle, name: str) -> str:
    sizes = ", ".join(f"{len(names)} {part}" for part, names in made.split.items())
    left = len(made.facts.left_out)
    return f"""# {name}

Made by `nestseg bundle new` from {made.data.name}: {sizes} cases, {left} left out. Not trained yet.

```
python -m monai.bundle run --config_file configs/train.json --bundle_root .
```

`bundle.yaml` says why everything was chosen as it was, `docs/fingerprint.json` holds the numbers.
After a change in `bundle.yaml`, in the folder that holds this bundle:

```
python -m nestseg.bundle .
```

`datalist.json` names the files of the data set. Keep it to yourself if their names do not go
outside; a trained bundle runs without it.
"""


def _check_out(out: Path, dataset: Path) -> None:
    if out.exists():
        raise InputError(f"{out}: is there already; remove it or choose another --out")
    if out.absolute().is_relative_to(dataset.absolute()):
        raise InputError(f"{out}: lies inside the data set; choose a folder outside of it")
    if re.search(r"_v\d", out.name):
        raise InputError(f"{out}: MONAI's tools read a version in `_v1`; choose another name")


def _labels(data: DataSet, facts: Fingerprint) -> dict[int, str]:
    """The labels with names that are text to MONAI and to YAML.

    Raises:
        InputError: the data set declares none, and the values that occur have gaps.
    """
    found = sorted({0, *facts.labels})
    if data.labels is None and found != list(range(len(found))):
        raise InputError(
            f"{data.source}: labels {', '.join(map(str, found))} occur; they must run 0, 1, 2, … "
            "without a gap: renumber them"
        )
    names = data.labels or {0: "background"} | dict.fromkeys(found[1:], "")
    return {value: _name(name, f"label {value}") for value, name in names.items()}


def _name(name: str, default: str) -> str:
    clean = " ".join(name.translate(_CODE).split())
    try:
        float(clean or "0")
    except ValueError:
        return clean
    return default


def _plain(data: DataSet) -> DataSet:
    """The data set with texts that MONAI takes for texts: a `$` would be run as code."""
    return replace(
        data,
        name=_name(data.name, f"data set {data.name.translate(_CODE)}"),
        description=_name(data.description, ""),
        licence=_name(data.licence, ""),
    )


def _split(data: DataSet, facts: Fingerprint) -> dict[str, tuple[str, ...]]:
    """The data set's own split without the cases left out, or one by subject.

    Raises:
        InputError: too few subjects, or nothing is left on one side.
    """
    if data.split is None:
        return split.split(facts.cases)
    used = set(facts.cases)
    parts = {part: tuple(n for n in data.split[part] if n in used) for part in SPLITS}
    empty = [part for part in ("train", "val") if not parts[part]]
    if empty:
        raise InputError(f"{data.source}: no case under split/{empty[0]}; name at least one")
    return parts


def _lines(items: Sequence[Choice], anchor: str = "") -> list[str]:
    lines = []
    for choice in items:
        mark = f"{anchor}{_anchor(choice.key)} " if anchor else ""
        lines += _comment(choice.why, "    ")
        lines.append(
            f"    {json.dumps(choice.key) if choice.key[0] == '+' else choice.key}: "
            f"{mark}{_flow(choice.value)}"
        )
    return lines


def _parts(*names: str) -> str:
    return f"  parts: [{', '.join(names)}]"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
    )


def _anchor(key: str) -> str:
    return re.sub(r"\W+", "_", key)


def _flow(value: Any) -> str:
    """JSON is YAML as long as no number has an exponent, and rounded ones have none."""
    return json.dumps(value, ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

"""The workflows of a bundle: every property that MONAI and its hosts ask for can be built."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import BundleProperty, BundlePropertyConfig, set_determinism

from nestseg.bundle import building, configs
from nestseg.bundle.checks import layout
from nestseg.bundle.findings import Finding
from nestseg.bundle.way_back import send_labels_by_nearest

_WORKFLOWS = (
    ("train", ("train",)),
    ("train", ("train", "evaluate")),
    ("infer", ("inference",)),
)
_DATA = ("train#dataset", "validate#dataset", "dataset")
_CASES = 8


def check(bundle: Path, scratch: Path) -> list[Finding]:
    """Build the properties of training, evaluation and inference.

    Args:
        bundle: a copy of the bundle, which its configs may write into.
        scratch: where their outputs go.
    """
    found = []
    for kind, names in _WORKFLOWS:
        paths = [path for name in names if (path := layout.config_file(bundle, name)) is not None]
        if len(paths) == len(names):
            found += _check_one(bundle, scratch, kind, paths)
    return list(dict.fromkeys(found))


def _check_one(bundle: Path, scratch: Path, kind: str, paths: list[Path]) -> list[Finding]:
    def finding(place: str, problem: str, remedy: str = "fix the config") -> Finding:
        return Finding(_file_of(place, paths, bundle), place, problem, remedy)

    with quiet():
        try:
            workflow = ConfigWorkflow(
                config_file=[str(path) for path in paths],
                meta_file=str(bundle / "configs" / "metadata.json"),
                logging_file=False,
                workflow_type=kind,
                bundle_root=str(bundle),
                dataset_dir=str(scratch),
            )
            on_cases(workflow.parser, [{"image": "image", "label": "label"}] * _CASES, scratch)
            workflow.parser.parse(reset=True)
        except Exception as error:  # noqa: BLE001  whatever MONAI raises for a broken config
            dead = [finding(place, problem) for place, problem in _dead_macros(paths)]
            return dead or [finding("", building.first_line(building.root_cause(error)))]
        found = [finding(place, problem) for place, problem in _unbuilt(workflow)]
        found += [finding(place, problem) for place, problem in _metric_names(workflow.parser)]
        found += [finding(*one) for one in _interpolated_labels(workflow.parser)]
        if not found:
            try:
                workflow.initialize()
                wrong = workflow.check_properties() or []
            except Exception as error:  # noqa: BLE001  whatever a bundle's expressions raise
                return [finding("initialize", building.first_line(building.root_cause(error)))]
            finally:
                set_determinism(seed=None)  # what a bundle's `initialize` may have changed
            found = [_misplaced(name, workflow, finding) for name in wrong]
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MONAI from logging what is told here in findings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def on_cases(parser: Any, cases: list[dict[str, str]], scratch: Path) -> None:
    """Give every dataset these cases, read none of them yet, and compute on the CPU."""
    for place in _DATA:
        if f"{place}#data" in parser:
            parser[f"{place}#data"] = cases
        target = str(parser.get(f"{place}#_target_", ""))
        if target.endswith("CacheDataset"):
            parser[f"{place}#cache_rate"] = 0.0
        if target.endswith("TrainingSet"):  # reads its cases when it is built
            kept = {key: parser[f"{place}#{key}"] for key in ("data", "transform")}
            parser[place] = {"_target_": "Dataset", **kept}
    for place, value in (("output_dir", str(scratch)), ("device", "$torch.device('cpu')")):
        if place in parser:
            parser[place] = value


def _unbuilt(workflow: ConfigWorkflow) -> Iterator[tuple[str, str]]:
    for name, rule in workflow.properties.items():
        place = rule[BundlePropertyConfig.ID]
        required = rule.get(BundleProperty.REQUIRED, False)
        if place not in workflow.parser:
            if required:
                yield place.replace("::", "#"), f"is missing: hosts read `{name}` there"
            continue
        try:
            building.build(workflow.parser, place)
        except building.BuildError as error:
            yield error.place, error.why


def _misplaced(name: str, workflow: ConfigWorkflow, finding: Any) -> Finding:
    rule = workflow.properties[name]
    place = rule[BundlePropertyConfig.ID].replace("::", "#")
    at = (rule.get(BundlePropertyConfig.REF_ID) or place).replace("::", "#")
    return finding(at, f"does not refer to `{place}`", f'write "@{place}" there')  # type: ignore[no-any-return]


def _metric_names(parser: Any) -> Iterator[tuple[str, str]]:
    """Metrics that a saver writes must be computed: MONAI leaves an unknown one out in silence."""
    known = _metrics(parser)
    for place in ("validate#handlers", "handlers"):
        handlers = parser.get(place)
        for number, handler in enumerate(handlers if isinstance(handlers, list) else []):
            if not isinstance(handler, dict):
                yield f"{place}#{number}", "is no mapping with a `_target_`; MONAI's check fails"
                continue
            for key, name in _saved(handler):
                if name not in known:
                    listed = ", ".join(sorted(known)) or "none"
                    yield f"{place}#{number}#{key}", f"{name} is no metric; there is: {listed}"


def _interpolated_labels(parser: Any) -> Iterator[tuple[str, str, str]]:
    """Label maps must go back by the nearest voxel: between 0 and 2 there is no label 1."""
    for place in ("postprocessing", "validate#postprocessing"):
        try:
            steps = building.build(parser, place) if place in parser else None
        except building.BuildError:
            continue  # _unbuilt says so
        if send_labels_by_nearest(steps):
            problem = "its Invertd interpolates between label numbers (nearest_interp is false)"
            remedy = "set nearest_interp to true, or invert the logits before argmax"
            yield f"{place}#transforms", problem, remedy


def _metrics(parser: Any) -> set[str]:
    """Names of the metrics that are computed in validation."""
    places = ["validate#key_metric", "validate#additional_metrics", "key_metric"]
    for evaluator in ("validate#evaluator", "evaluator"):
        places += [f"{evaluator}#key_val_metric", f"{evaluator}#additional_metrics"]
    found = [parser.get(place) for place in places]
    return {name for metrics in found if isinstance(metrics, dict) for name in metrics}


def _saved(handler: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Argument and metric, for each metric that a handler names."""
    for key in ("metrics", "metric_details", "key_metric_name"):
        names = handler.get(key)
        for name in [names] if isinstance(names, str) else names or []:
            if name != "*" and name[:1] not in "@$":
                yield key, name


def _dead_macros(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Macros ``%id`` to what is not there; MONAI's error does not say where they stand."""
    parser = ConfigParser()
    try:
        parser.read_config([str(path) for path in paths])
    except (ValueError, KeyError, IndexError):  # an overlay that reaches into what is not there
        return
    for place, item in configs.leaves(parser.get()):
        if isinstance(item, str) and item.startswith("%"):
            text = ConfigParser.resolve_relative_ids(place.replace("#", "::"), item)
            if text[1:] not in parser:
                yield place, f"{item} is not defined"


def _file_of(place: str, paths: list[Path], bundle: Path) -> str:
    """The config that an id comes from: the last that goes furthest towards it."""
    best, furthest = paths[0], 0
    for path in paths:
        content = configs.read(path, bundle).content
        for key in content if isinstance(content, dict) else ():
            name = str(key).removeprefix("+").replace("::", "#")
            if f"{place}#".startswith(f"{name}#") and len(name) >= furthest:
                best, furthest = path, len(name)
    return configs.shown(best, bundle)

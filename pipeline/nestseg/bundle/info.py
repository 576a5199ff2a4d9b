"""What a bundle says of itself, read as data: no torch, and none of its code is run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from nestseg.bundle import locate, manifest
from nestseg.bundle.locator import Locator
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.outputs.plausibility import Expected, expectations, uncertainty_limit
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection

_LONGEST_TEXT: Final = 200
_LARGEST_CONFIG: Final = 2**20
_MOST_CHANNELS: Final = 256
_VERSIONS: Final = {
    "monai": "monai_version",
    "torch": "pytorch_version",
    "numpy": "numpy_version",
}
_UNREADABLE: Final = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    *(OverflowError, RecursionError),
)
WEIGHTS: Final = Path("models", "model.pt")
"""Where MONAI's specification wants them; a config may name another file."""

_MODALITIES: Final = {
    "CT": re.compile(r"\bCT\b|computed tomography|hounsfield", re.IGNORECASE),
    "MR": re.compile(r"\bMRI?\b|magnetic resonance", re.IGNORECASE),
    "PT": re.compile(r"\bPET\b|\bPT\b|positron emission", re.IGNORECASE),
}
_BACKGROUND: Final = re.compile(r"background|^(bg|everything else|rest|none)$", re.IGNORECASE)


class ChannelMeaning(NamedTuple):
    """What the channels of a network's output stand for (:mod:`nestseg.bundle.label_trial`).

    Attributes:
        first: value of channel 0, where the postprocessing leaves a channel a label: 0 if it is the
            background, else 1.
        channel_of: value in the mask → channel, without the background; empty if that cannot be
            found out, and each channel is its own value.
        hidden_by: value in the mask → other channels that take its voxels from it, where the
            postprocessing merges labels that overlap by precedence.
        overlap: whether channels remain that may claim the same voxel, each a label of its own.
    """

    first: int = 0
    channel_of: Mapping[int, int] = MappingProxyType({})
    hidden_by: Mapping[int, tuple[int, ...]] = MappingProxyType({})
    overlap: bool = False


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """A bundle's name, labels and rules.

    Attributes:
        name: the folder's name.
        version: of the bundle, from its metadata.
        labels: value in the mask → name, without the background.
        overlap: whether labels may share a voxel: each has a mask of its own then.
        selection: which series it takes.
        metadata: all that ``metadata.json`` holds.
        config: the inference config, as plain data.
        segment_codes: what labels mean in codes, where the metadata say so
            (``nestseg.outputs.dicom.terminology``).
        expected: label value → what its structure looks like, where the metadata say so.
        uncertainty_at_most: the largest uncertainty of its validation cases, where it was measured.
        locator: what finds the structures in a whole scan, where its network knows crops alone.
        weights_sha256: of the file that its weights come from; ``""`` before they are loaded.
    """

    name: str
    version: str
    labels: dict[int, str]
    selection: Selection
    metadata: dict[str, Any]
    config: dict[str, Any]
    segment_codes: dict[str, Any]
    overlap: bool = False
    expected: dict[int, Expected] = field(default_factory=dict)
    uncertainty_at_most: float | None = None
    locator: Locator | None = None
    weights_sha256: str = ""

    @property
    def named_channels(self) -> dict[int, str]:
        """Channel of the network's output → name; empty if nothing names them.

        From ``channel_def`` of the metadata, or ``label_def``; without them from a ``labels`` or
        ``label_names`` of the config.
        """
        return _named_channels(self.metadata, self.config)

    @property
    def names_values(self) -> bool:
        """Whether ``label_def`` says what the values of a mask are, beside ``channel_def``."""
        return bool(_named_values(self.metadata))

    @property
    def output_channels(self) -> int:
        """How many channels the network gives, as the metadata say it; 0 where they do not."""
        return _output_channels(self.metadata)

    @property
    def input_channels(self) -> int:
        """How many channels the network takes, as the metadata say it."""
        count = _tensor(self.metadata, "inputs", "image").get("num_channels")
        return count if isinstance(count, int) else 1

    @property
    def input_names(self) -> dict[int, str]:
        """Channel of the network's input → name."""
        named = _numbered(_tensor(self.metadata, "inputs", "image").get("channel_def"))
        count = min(self.input_channels, _MOST_CHANNELS)
        return {n: named.get(n, f"channel {n}") for n in range(count)}

    @property
    def modality(self) -> str:
        """What the metadata call the modality, or the ones that the rules take."""
        said = _tensor(self.metadata, "inputs", "image").get("modality")
        return (
            said if isinstance(said, str) and said else ", ".join(self.selection.modalities or ())
        )

    @property
    def requires(self) -> dict[str, str]:
        """Package → version that the metadata ask for."""
        required = self.metadata.get("required_packages_version")
        versions = {name: self.metadata.get(key) for name, key in _VERSIONS.items()}
        given = versions | (required if isinstance(required, dict) else {})
        return {str(name): str(version) for name, version in given.items() if version}

    @property
    def input_dims(self) -> int:
        """How many axes the network's input has, as the metadata say it; 3 where they do not."""
        shape = _tensor(self.metadata, "inputs", "image").get("spatial_shape")
        return len(shape) if isinstance(shape, list) and shape else 3

    @property
    def algorithm(self) -> Algorithm:
        """The same for DICOM objects."""
        return Algorithm(self.name, self.version, self.weights_sha256, self.segment_codes)

    def with_channels(self, meaning: ChannelMeaning) -> BundleInfo:
        """The same with the labels of what its postprocessing gives.

        A label that others take voxels from is named as what is left of it: BraTS' value 2, of
        "Whole tumor", is "Whole tumor without Tumor core and Enhancing tumor". Labels stay as they
        are where the background would have a value: no name is right then.

        Raises:
            InputError: a value is too large, or a name cannot be printed.
        """
        named, labels = self.named_channels, {}
        if not meaning.channel_of or (has_background(named) and 0 in meaning.channel_of.values()):
            return self
        for value, channel in meaning.channel_of.items():
            hidden_by = meaning.hidden_by.get(value, ())
            others = " and ".join(named.get(one, f"channel {one}") for one in hidden_by)
            name = named.get(channel, f"label {value}")
            labels[value] = f"{name} without {others}" if others else name
        return replace(self, labels=_checked(self.name, labels), overlap=meaning.overlap)

    def check_named(self, masks: Sequence[npt.NDArray[Any]]) -> None:
        """Pass if masks hold no label without a name: it would be stored under a wrong one.

        Args:
            masks: uint8 or uint16; one, or where labels may overlap one for each of them.

        Raises:
            InputError: one does.
        """
        named = [[value] for value in self.labels] if self.overlap else [list(self.labels)]
        for mask, labels in zip(masks, named, strict=True):
            known = np.zeros(2**16, bool)
            known[[0, *labels]] = True
            strange = mask[~known[mask]]
            if strange.size:
                raise InputError(
                    f"{self.name}: its mask has the value {strange[0]}, and its metadata.json "
                    f"names {', '.join(map(str, labels))}; correct channel_def"
                )

    def uncertainty_limit(self, options: SegmentOptions) -> float | None:
        """The largest uncertainty of its validation cases, if it was measured in the same way.

        Mirrored tiles, levels, ensembles and smaller tiles have uncertainties of other sizes.
        """
        same = (options.tta, options.level, options.ensemble, options.gentle)
        return self.uncertainty_at_most if same == ("none", None, (), False) else None


def read_info(bundle: Path) -> BundleInfo:
    """Read what a bundle says of itself; its weights are not opened.

    Args:
        bundle: its folder.

    Raises:
        InputError: a file is missing or damaged; the line names it.
    """
    return described(bundle.name, _read_metadata(bundle), read_config(bundle))


def described(name: str, metadata: dict[str, Any], config: dict[str, Any]) -> BundleInfo:
    """What the files of a bundle say.

    Args:
        name: of the bundle.
        metadata: as ``metadata.json`` holds it.
        config: of the inference.

    Raises:
        InputError: labels, rules or expectations are wrong; the line says which.
    """
    labels, expected = _labels(metadata, config), expectations(metadata)
    if locator := Locator.of(config, name):
        expected = locator.per_region(expected, len(labels))
        labels = locator.labels(labels)
    return BundleInfo(
        name=name,
        version=str(metadata["version"]),
        labels=_checked(name, labels),
        selection=_selection(name, metadata, config),
        metadata=metadata,
        config=config,
        segment_codes=metadata.get("segment_codes") or {},
        expected=expected,
        uncertainty_at_most=uncertainty_limit(metadata),
        locator=locator,
    )


def _checked(bundle: str, labels: dict[int, str]) -> dict[int, str]:
    """Labels that may stand in reports, tables and DICOM files.

    Raises:
        InputError: a value is too large for a mask, or a name too long or not printable.
    """
    try:
        if not all(0 < value < 2**16 for value in labels):
            raise ValueError
        return {value: _text(name) for value, name in labels.items()}
    except ValueError:
        raise InputError(
            f"{bundle}: its labels cannot be used: values must be 1 to 65535, names printable and "
            f"of at most {_LONGEST_TEXT} characters; correct channel_def in metadata.json"
        ) from None


def _short_text(path: Path) -> str:
    if path.stat().st_size > _LARGEST_CONFIG:
        raise ValueError("too large")
    return path.read_text(encoding="utf-8")


def _text(value: Any) -> str:
    """A name that may stand in reports, tables and DICOM files."""
    text = str(value)
    if not text.isprintable() or len(text) > _LONGEST_TEXT:
        raise ValueError
    return text


def read_config(bundle: Path) -> dict[str, Any]:
    """The inference config, as plain data.

    Raises:
        InputError: it is missing or damaged.
    """
    path = locate.inference_config(bundle)
    if path is None:
        raise InputError(f"{bundle.name}: there is no configs/inference.json or inference.yaml")
    try:
        text = _short_text(path)
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if not isinstance(content, dict):
            raise TypeError
    except (*_UNREADABLE, yaml.YAMLError) as error:
        raise InputError(
            f"{bundle.name}: {path.name} cannot be read ({type(error).__name__}); restore it"
        ) from error
    return content


def _read_metadata(bundle: Path) -> dict[str, Any]:
    """What ``metadata.json`` holds; a version and the form of the network's output are in it.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        metadata = dict(json.loads(_short_text(bundle / "configs" / "metadata.json")))
        metadata["version"] = _text(metadata["version"])
        codes = metadata.get("segment_codes", {})
        if not _tensor(metadata, "outputs", "pred") or not isinstance(codes, dict):
            raise TypeError
    except _UNREADABLE as error:
        raise InputError(
            f"{bundle.name}: metadata.json cannot be read ({type(error).__name__}); restore it"
        ) from error
    return metadata


def weights_digest(bundle: Path, weights: Path) -> str:
    """SHA-256 of the file of the weights.

    Raises:
        InputError: it is missing, or does not lie in the bundle.
    """
    if weights.is_absolute() or ".." in weights.parts:
        raise InputError(f"{bundle.name}: its weights lie outside of it; put them into models/")
    path = bundle / weights
    try:
        if not path.is_file():
            raise FileNotFoundError
        return manifest.digest(path)
    except OSError:
        raise InputError(missing_weights(bundle, weights)) from None


def has_background(channels: dict[int, str]) -> bool:
    """Whether channel 0 is named as the background, and not as a structure."""
    return bool(_BACKGROUND.search(channels.get(0, "").strip()))


def _labels(metadata: dict[str, Any], config: dict[str, Any]) -> dict[int, str]:
    """Value in the mask → name, if each channel has a value of its own.

    That of channel 0 is 0, the background, unless the channel stands for something else; then it is
    1, and so on. Without names they are made up of the number of channels. Where ``label_def`` is
    there beside ``channel_def``, it says what the values are.
    """
    if values := _named_values(metadata):
        return {value: name for value, name in values.items() if value}
    channels = _named_channels(metadata, config) or {
        value: f"label {value}" for value in range(1, max(_output_channels(metadata), 2))
    }
    if 0 not in channels or has_background(channels):
        return {value: name for value, name in channels.items() if value}
    return {channel + 1: name for channel, name in channels.items()}


def _named_values(metadata: dict[str, Any]) -> dict[int, str]:
    output = _tensor(metadata, "outputs", "pred")
    return _numbered(output.get("label_def")) if output.get("channel_def") else {}


def _named_channels(metadata: dict[str, Any], config: dict[str, Any]) -> dict[int, str]:
    output = _tensor(metadata, "outputs", "pred")
    for named in (output.get("channel_def"), output.get("label_def")):
        if found := _numbered(named):
            return found
    for named in (config.get("labels"), config.get("label_names")):
        if isinstance(named, dict) and (
            found := _numbered({value: name for name, value in named.items() if _plain(value)})
        ):
            return found
    return {}


def _output_channels(metadata: dict[str, Any]) -> int:
    count = _tensor(metadata, "outputs", "pred").get("num_channels")
    return count if isinstance(count, int) and count > 0 else 0


def _selection(name: str, metadata: dict[str, Any], config: dict[str, Any]) -> Selection:
    """The bundle's rule for inputs.

    A config without a ``selection``, which is nestseg's own id, takes the modality that the
    metadata name, or CT and MR where they name none or several.
    """
    if "selection" in config:
        rule = config["selection"]
        if not isinstance(rule, dict):
            raise InputError(f"{name}: `selection` of its config holds no rules; fix it")
        rules = {key: value for key, value in rule.items() if key != "_target_"}
        return Selection.from_rules(rules, f"{name}: its config")
    modality = _modality(metadata)
    selection = Selection(modalities=[modality] if modality else ["CT", "MR"])
    says = "as its metadata say" if modality else "since its metadata name no modality"
    selection.origin = f"{name} has no rules for inputs: {modality or 'CT and MR'} {says}"
    return selection


def _modality(metadata: dict[str, Any]) -> str | None:
    """The one modality that a text of the metadata names, the most reliable text first."""
    image = _tensor(metadata, "inputs", "image")
    prose = ("name", "task", "description", "image_classes")
    for texts in (
        [image.get("modality")],
        [metadata.get("modality")],
        [image.get("format")],
        [metadata.get(name) for name in prose],
    ):
        text = " ".join(one for one in texts if isinstance(one, str)).replace("_", " ")
        found = [name for name, pattern in _MODALITIES.items() if pattern.search(text)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _tensor(metadata: dict[str, Any], side: str, name: str) -> dict[str, Any]:
    """What the metadata say of an input or output: the one of that name, or the first."""
    formats = metadata.get("network_data_format")
    tensors = formats.get(side) if isinstance(formats, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        return {}
    found = tensors.get(name, next(iter(tensors.values())))
    return found if isinstance(found, dict) else {}


def _numbered(named: Any) -> dict[int, str]:
    """Number → name in rising order; empty if that is not what it holds."""
    try:
        found = {int(number): str(name) for number, name in named.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        return {}
    return dict(sorted(found.items())) if all(number >= 0 for number in found) else {}


def _plain(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def missing_weights(bundle: Path, weights: Path) -> str:
    """That there are no weights, and what to do: lists of large files say where they are."""
    if any((bundle / f"large_files.{kind}").is_file() for kind in ("yml", "yaml", "json")):
        fetch = f"python -m monai.bundle download_large_files --bundle_path {bundle.name}"
        return f"{bundle.name}: {weights} is missing; fetch it: `{fetch}`"
    return f"{bundle.name}: {weights} is missing; train the bundle first"

"""A bundle from elsewhere: loaded and run in cages, one process for each image.

The parent reads images and writes results; the cage gets voxels and gives back a mask. It sees no
path, no tag and no other case, not even in memory: each image has a process of its own, and what
that process leaves behind is deleted with it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from nestseg.bundle import cage, keeper, locate, trace
from nestseg.bundle.channel import Array, Channel, ChannelError
from nestseg.bundle.info import BundleInfo, ChannelMeaning, read_info, weights_digest
from nestseg.bundle.kernel import Grants
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.segmentation import Prediction
from nestseg_prep import process_memory
from nestseg_prep.errors import BundleError, InputError
from nestseg_prep.volume import Volume

_LABEL_TYPES: Final = ("uint8", "uint16")
_STORED: Final = ("uint16",)
_MOST_NOTES: Final = 20
_MOST_PROBABILITIES: Final = 2**16
_PATIENCE_S: Final = 10.0  # for a process that has closed its pipe to end, and its folder to go


class BundleProcessError(BundleError):
    """The caged process of a bundle died or broke the form of its messages."""


class BundleCodeError(BundleError):
    """The code of a bundle raised an error that says nothing of the input.

    Attributes:
        kind: name of the error's class.
        told: where, and why: see :func:`nestseg.bundle.trace.told`.
        lasts: whether it would fail on the same input again.
    """

    def __init__(self, kind: str, told: str = "", *, lasts: bool = False) -> None:
        super().__init__(kind + told)
        self.kind, self.told, self.lasts = kind, told, lasts


class Caged:
    """A module in a cage, with a channel to it.

    Args:
        module: gets two file descriptors as its arguments: to read from, and to write to.
        grants: what it may touch.
        variables: added to its environment.
        longest_s: seconds after which it is ended; ``None`` for any time.

    Raises:
        InputError: this system cannot hold a cage.
    """

    def __init__(
        self,
        module: str,
        grants: Grants,
        variables: dict[str, str] | None = None,
        longest_s: float | None = None,
    ) -> None:
        self._until = None if longest_s is None else time.monotonic() + longest_s
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        try:
            self._process = cage.CagedProcess(
                module,
                [str(theirs_in), str(theirs_out)],
                grants,
                pass_fds=(theirs_in, theirs_out),
                variables=variables,
            )
        except BaseException:
            os.close(ours_in)
            os.close(ours_out)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._kills = process_memory.out_of_memory_kills()
        self.channel = Channel(ours_in, ours_out, self._check_time)
        self._closed = False

    def ask(self, message: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a message, if there is one, and wait for the answer.

        Raises:
            InputError: the answer says that the bundle or the image cannot be used.
            MemoryError: it says that memory ran out.
            BundleCodeError: it says that the bundle's code failed.
            BundleProcessError: the process died, or broke the form of the messages.
        """
        if message is not None:
            self.send(message)
        answer: dict[str, Any] = self._guarded(self.channel.receive)
        if "failed" in answer:
            self.close()
            raise _failure(answer)
        return answer

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; errors as of :meth:`ask`."""
        self._guarded(partial(self.channel.send, message))

    def send_array(self, array: Array) -> None:
        """Send an array; errors as of :meth:`ask`."""
        self._guarded(partial(self.channel.send_array, array))

    def receive_array(self, shape: tuple[int, ...], types: tuple[str, ...]) -> Array:
        """Wait for an array; errors as of :meth:`ask`."""
        found: Array = self._guarded(partial(self.channel.receive_array, shape, types))
        return found

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self._closed and self._process.process.poll() is None

    def close(self, patience_s: float = 0.0) -> int | None:
        """End the process; its exit code if it ended by itself within so many seconds."""
        if self._closed:
            return None
        self._closed = True
        self.channel.close()
        return self._process.close(patience_s)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def _guarded(self, step: Any) -> Any:
        try:
            return step()
        except ChannelError as error:
            code = self.close(_PATIENCE_S)
            if code == -signal.SIGKILL and process_memory.out_of_memory_kills() > self._kills:
                raise MemoryError("the machine ran out of memory") from error
            raise BundleProcessError(_ending(code, error)) from error
        except BaseException:
            self.close()
            raise

    def _check_time(self) -> None:
        if self._until is not None and time.monotonic() > self._until:
            raise BundleProcessError("the bundle took too long and was ended")


class CageLimits(NamedTuple):
    """What a cage may use.

    Attributes:
        threads: of the computation; 0 for what the environment says.
        memory_mb: of its own data, in units of 10⁶ bytes.
        ahead: whether a cage for the next image is loaded as soon as one image is done.
        longest_s: seconds after which it is ended; ``None`` for any time.
    """

    threads: int = 0
    memory_mb: int | None = None
    ahead: bool = False
    longest_s: float | None = None


class _Server(Caged):
    """A bundle in a cage, ready for one image."""

    def __init__(self, bundle: Path, options: SegmentOptions, limits: CageLimits) -> None:
        folders = (bundle, *options.ensemble)
        variables = {"OMP_NUM_THREADS": str(limits.threads)} if limits.threads else {}
        grants = Grants(read=(locate.home(), *folders), memory_mb=limits.memory_mb)
        super().__init__("nestseg.bundle.caged_worker", grants, variables, limits.longest_s)
        self._ready: dict[str, Any] | None = None
        self.send({"bundles": [str(one) for one in folders], "options": options.settings()})

    def ready(self) -> dict[str, Any]:
        """Wait until the bundle is loaded; errors as of :meth:`Caged.ask`."""
        if self._ready is None:
            self._ready = self.ask()
        return self._ready

    def predict(self, volume: Volume, options: SegmentOptions, masks: int) -> Prediction:
        """Segment the image; probabilities come one by one as they are asked for.

        Args:
            volume: the image.
            options: what to compute.
            masks: how many there will be.
        """
        self.ready()
        self.send(
            {
                "affine": volume.affine.tolist(),
                "options": options.settings() | {"gentle": options.gentle},
            }
        )
        self.send_array(plain(volume.image))
        answer = _checked(self.ask(), options)
        found = tuple(self._map(volume, _LABEL_TYPES) for _ in range(masks))
        uncertainty_map = self._map(volume, _STORED) if answer["uncertainty_map"] else None
        following = partial(self._map, volume, _STORED)
        return Prediction(
            found,
            answer["uncertainty"],
            uncertainty_map,
            tuple(answer["notes"]),
            answer["computed_by"],
            _probability=(following,) * answer["probabilities"],
        )

    def _map(self, volume: Volume, types: tuple[str, ...]) -> Volume:
        return volume.with_voxels(self.receive_array(volume.shape, types))


@dataclass(frozen=True, kw_only=True)
class Cages:
    """A bundle whose code runs in cages, one for each image.

    Attributes:
        info: what the bundle says of itself, with the digest of its weights.
        device: where it computes.
    """

    info: BundleInfo
    device: str
    _folder: Path
    _options: SegmentOptions
    _limits: CageLimits
    _spare: list[_Server] = field(default_factory=list)

    def predict(self, volume: Volume, options: SegmentOptions) -> Prediction:
        """Label every voxel of an image; see :meth:`nestseg.bundle.bundle.Bundle.predict`."""
        server = self._spare.pop() if self._spare else None
        if server is None or not server.alive:
            server = self._start()
        try:
            count = len(self.info.labels) if self.info.overlap else 1
            result = server.predict(volume, options, count)
            self.info.check_named([mask.array for mask in result.masks])
            if not options.save_probabilities:  # they come later
                server.close()
            return result
        finally:
            if self._limits.ahead:  # it loads while this result is written and the next one is read
                self._spare.append(self._start())

    def _start(self) -> _Server:
        return _Server(self._folder, self._options, self._limits)


def load(bundle: Path, options: SegmentOptions, limits: CageLimits) -> Cages:
    """Load a bundle in a cage.

    Args:
        bundle: its folder.
        options: what it will be asked for; the ensemble is loaded with it.
        limits: of each cage.

    Raises:
        InputError: the bundle cannot be loaded, or not be caged on this system.
    """
    info = read_info(bundle)
    server = _Server(bundle, options, limits)
    try:
        answer = server.ready()
    except (BundleProcessError, BundleCodeError) as error:
        raise InputError(f"{bundle.name}: cannot be loaded: {error}") from error
    except MemoryError:
        raise InputError(
            f"{bundle.name}: out of memory while loading; allow or find more"
        ) from None
    try:
        told = _told(bundle, info, answer)
    except InputError:
        server.close()
        raise
    return Cages(
        info=told,
        device=answer["device"],
        _folder=bundle,
        _options=options,
        _limits=limits,
        _spare=[server],
    )


def _told(bundle: Path, info: BundleInfo, answer: dict[str, Any]) -> BundleInfo:
    """What only the code of a bundle can tell of it: its weights, and what its labels are.

    Raises:
        InputError: the weights lie outside of the bundle, or the answer is not of the agreed form.
    """
    device, weights, values = (answer.get(name) for name in ("device", "weights", "values"))
    if not isinstance(device, str) or not re.fullmatch(r"[a-z]{2,8}(:\d{1,3})?", device):
        raise InputError(f"{bundle.name}: its device is not one of torch's; check its config")
    overlap = answer.get("overlap")
    sound = isinstance(weights, str) and isinstance(overlap, bool) and isinstance(values, list)
    if not sound or len(values or ()) >= 2**16 or not all(map(_is_value, values or ())):
        raise InputError(f"{bundle.name}: its process told nonsense of it; do not use it")
    meaning = ChannelMeaning(
        channel_of={value: channel for value, channel, *_ in values or ()},
        hidden_by={value: tuple(others) for value, _, *others in values or ()},
        overlap=overlap is True,
    )
    digest = weights_digest(bundle, Path(str(weights)))
    return replace(info.with_channels(meaning), weights_sha256=digest)


def _is_value(found: Any) -> bool:
    """Whether it is a value of a mask, its channel, and the channels that hide it."""
    return (
        isinstance(found, list)
        and 2 <= len(found) < 2**8
        and all(type(one) is int for one in found)
        and 0 < found[0] < 2**16
    )


def plain(array: Array) -> Array:
    """The array in a type that a channel takes, in this machine's byte order."""
    kind = array.dtype if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    return array.astype(kind.newbyteorder("="), copy=False)


def _failure(answer: dict[str, Any]) -> Exception:
    """What a cage reports as an exception; its words are foreign text."""
    text = cage.printable(str(answer.get("text", "")), 300)
    error: Exception
    match answer["failed"]:
        case "input":
            error = InputError(text or "the bundle refuses the image without a reason")
        case "memory":
            error = MemoryError(text)
        case _:
            kind = text if re.fullmatch(r"[A-Za-z_][\w.]{0,60}", text) else "Error"
            told = cage.printable(str(answer.get("told", "")), 300)
            error = BundleCodeError(kind, told, lasts=answer.get("lasts") is True)
    lines = answer.get("trace")
    if trace.wanted() and isinstance(lines, list):
        shown = [cage.printable(str(line)) for line in lines[: trace.MOST_LINES]]
        error.add_note("\n".join(["In the cage:", *shown]))
    return error


def _checked(answer: dict[str, Any], options: SegmentOptions) -> dict[str, Any]:
    """An answer of the agreed form; whatever else it holds is dropped.

    Raises:
        BundleProcessError: it has another form.
    """
    uncertainty, notes = answer.get("uncertainty"), answer.get("notes")
    count, has_map = answer.get("probabilities"), answer.get("uncertainty_map")
    sound = (
        (uncertainty is None or (isinstance(uncertainty, float) and 0 <= uncertainty <= 1))
        and isinstance(notes, list)
        and len(notes) <= _MOST_NOTES
        and all(isinstance(note, str) for note in notes)
        and isinstance(count, int)
        and 0 <= count <= (_MOST_PROBABILITIES if options.save_probabilities else 0)
        and isinstance(has_map, bool)
        and isinstance(answer.get("computed_by"), str)
    )
    if not sound:
        raise BundleProcessError("the bundle's process broke the form of its messages")
    return {
        "uncertainty": uncertainty,
        "uncertainty_map": has_map,
        "probabilities": count,
        "notes": [cage.printable(note, 200) for note in notes or ()],
        "computed_by": cage.printable(str(answer["computed_by"]), 40),
    }


def _ending(code: int | None, error: ChannelError) -> str:
    if code is None:
        return f"the bundle's process was ended: {error}"
    if code == keeper.OVERFULL:
        return f"the bundle {cage.FILLED}"
    if code < 0:
        return f"the bundle's process was killed by {signal.Signals(-code).name}"
    return f"the bundle's process ended with code {code}"

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
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nestseg.bundle import cage, keeper, locate, trust
from nestseg.bundle.channel import Array, Channel, ChannelError
from nestseg.bundle.info import (
    BundleInfo,
    names_of_values,
    read_config,
    read_info,
    read_metadata,
    weights_digest,
)
from nestseg.bundle.kernel import Grants
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.segmentation import Segmentation
from nestseg_prep import process_memory
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

if TYPE_CHECKING:
    from nestseg.bundle.loaded import LoadedBundle

_LABEL_TYPES: Final = ("uint8", "uint16")
_STORED: Final = ("uint16",)
_MOST_NOTES: Final = 20
_MOST_PROBABILITIES: Final = 2**16
_PATIENCE_S: Final = 10.0  # for a process that has closed its pipe to end, and its folder to go


class BundleProcessError(Exception):
    """The caged process of a bundle died or broke the form of its messages."""


class BundleCodeError(Exception):
    """The code of a bundle raised an error that says nothing of the input.

    Attributes:
        kind: name of the error's class.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


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


class _Server(Caged):
    """A bundle in a cage, ready for one image."""

    def __init__(
        self, bundle: Path, options: SegmentOptions, threads: int, memory_mb: int | None
    ) -> None:
        folders = (bundle, *options.ensemble)
        variables = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        grants = Grants(read=(locate.home(), *folders), memory_mb=memory_mb)
        super().__init__("nestseg.bundle.caged_worker", grants, variables)
        self._ready: dict[str, Any] | None = None
        self.send({"bundles": [str(one) for one in folders], "options": options.settings()})

    def ready(self) -> dict[str, Any]:
        """Wait until the bundle is loaded; errors as of :meth:`Caged.ask`."""
        if self._ready is None:
            self._ready = self.ask()
        return self._ready

    def examine(self, volume: Volume, options: SegmentOptions) -> Segmentation:
        """Segment the image; probabilities come one by one as they are asked for."""
        self.ready()
        self.send(
            {
                "affine": volume.affine.tolist(),
                "options": options.settings() | {"gentle": options.gentle},
            }
        )
        self.send_array(plain(volume.image))
        answer = _checked(self.ask(), options)
        mask = self._map(volume, _LABEL_TYPES)
        uncertainty_map = self._map(volume, _STORED) if answer["uncertainty_map"] else None
        following = partial(self._map, volume, _STORED)
        return Segmentation(
            mask,
            answer["uncertainty"],
            uncertainty_map,
            tuple(answer["notes"]),
            answer["computed_by"],
            (following,) * answer["probabilities"],
        )

    def _map(self, volume: Volume, types: tuple[str, ...]) -> Volume:
        return volume.with_voxels(self.receive_array(volume.shape, types))


@dataclass(frozen=True, kw_only=True)
class CagedBundle(BundleInfo):
    """A bundle whose code runs in cages; it segments as a ``LoadedBundle`` does.

    Attributes:
        device: where it computes.
    """

    device: str
    _folder: Path
    _options: SegmentOptions
    _threads: int
    _memory_mb: int | None
    _ahead: bool
    _spare: list[_Server] = field(default_factory=list)

    def segment(self, volume: Volume) -> Volume:
        """Label every voxel of an image: the mask of :meth:`examine`."""
        return self.examine(volume).mask

    def examine(self, volume: Volume, options: SegmentOptions | None = None) -> Segmentation:
        """Label every voxel of an image in a process of its own.

        Args:
            volume: the image, true values. Neither UIDs nor paths reach the cage.
            options: what else to compute, and how; those that the bundle was loaded with.

        Raises:
            InputError: the bundle cannot do what the options ask for.
            MemoryError: it ran out of memory.
            BundleCodeError: its code failed.
            BundleProcessError: its process died.
        """
        options = options or self._options
        server = self._spare.pop() if self._spare else None
        if server is None or not server.alive:
            server = self._start()
        try:
            result = server.examine(volume, options)
            self._check_labels(result.mask)
            if not options.save_probabilities:  # they come later
                server.close()
            return result
        finally:
            if self._ahead:  # it loads while this result is written and the next image is read
                self._spare.append(self._start())

    def _check_labels(self, mask: Volume) -> None:
        known = np.zeros(2**16, bool)
        known[[0, *self.labels]] = True
        strange = mask.array[~known[mask.array]]
        if strange.size:
            raise InputError(
                f"{self.name}: its mask holds label {strange[0]}, which its metadata do not name; "
                "correct channel_def in metadata.json"
            )

    def _start(self) -> _Server:
        return _Server(self._folder, self._options, self._threads, self._memory_mb)


def open_bundle(
    bundle: Path,
    options: SegmentOptions | None = None,
    *,
    threads: int = 0,
    memory_mb: int | None = None,
    ahead: bool = False,
) -> LoadedBundle | CagedBundle:
    """Load a bundle: in this process if it came with nestseg or is trusted, else in a cage.

    Args:
        bundle: its folder.
        options: what it will be asked for; the ensemble is loaded with it.
        threads: of the computation in a cage; 0 for what the environment says.
        memory_mb: limit of a cage's own data, in units of 10⁶ bytes.
        ahead: whether a cage for the next image is loaded as soon as one image is done.

    Raises:
        InputError: the bundle cannot be loaded, or not be caged on this system.
    """
    options = options or SegmentOptions()
    if not any(map(trust.needs_cage, (bundle, *options.ensemble))):
        from nestseg.bundle import loaded  # noqa: PLC0415  the parent of a cage needs no torch

        return loaded.load(bundle, options)
    return open_caged(bundle, options, threads=threads, memory_mb=memory_mb, ahead=ahead)


def open_caged(
    bundle: Path,
    options: SegmentOptions | None = None,
    *,
    threads: int = 0,
    memory_mb: int | None = None,
    ahead: bool = False,
) -> CagedBundle:
    """Load a bundle in a cage, trusted or not; arguments and errors as of :func:`open_bundle`."""
    options = options or SegmentOptions()
    info = read_info(bundle, None)
    server = _Server(bundle, options, threads, memory_mb)
    try:
        answer = server.ready()
    except (BundleProcessError, BundleCodeError) as error:
        raise InputError(f"{bundle.name}: {error} while loading") from error
    except MemoryError:
        raise InputError(
            f"{bundle.name}: out of memory while loading; allow or find more"
        ) from None
    device = answer.get("device")
    if not isinstance(device, str) or not re.fullmatch(r"[a-z]{2,8}(:\d{1,3})?", device):
        server.close()
        raise InputError(f"{bundle.name}: its device is not one of torch's; check its config")
    try:
        told = _told(bundle, answer)
    except InputError:
        server.close()
        raise
    return CagedBundle(
        **{one.name: getattr(info, one.name) for one in fields(info)} | told,
        device=device,
        _folder=bundle,
        _options=options,
        _threads=threads,
        _memory_mb=memory_mb,
        _ahead=ahead,
        _spare=[server],
    )


def _told(bundle: Path, answer: dict[str, Any]) -> dict[str, Any]:
    """What only the code of a bundle can tell of it: its weights, and the values of its labels.

    Raises:
        InputError: the weights lie outside of the bundle, or the answer is not of the agreed form.
    """
    weights, values = answer.get("weights"), answer.get("values")
    sound = isinstance(weights, str) and isinstance(values, list) and len(values) < 2**16
    if not sound or not all(map(_is_pair, values or ())):
        raise InputError(f"{bundle.name}: its process told nonsense of it; do not use it")
    told: dict[str, Any] = {"weights_sha256": weights_digest(bundle, Path(str(weights)))}
    if values:
        metadata, config = read_metadata(bundle), read_config(bundle)
        told["labels"] = names_of_values(metadata, config, dict(values))
    return told


def _is_pair(found: Any) -> bool:
    """Whether it is a value of a mask and a channel."""
    return (
        isinstance(found, list)
        and len(found) == 2
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
    match answer["failed"]:
        case "input":
            return InputError(text or "the bundle refuses the image without a reason")
        case "memory":
            return MemoryError(text)
    return BundleCodeError(text if re.fullmatch(r"[A-Za-z_][\w.]{0,60}", text) else "Error")


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

"""Messages between a caged process and its parent: JSON of a known form, and plain arrays.

Nothing is unpickled on either side. The parent believes nothing: sizes, types and texts are checked
before they are used, and a process that breaks the form is ended.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nestseg_prep.errors import BundleError

Array: TypeAlias = npt.NDArray[Any]

_LENGTH_BYTES: Final = 8
_MESSAGE_BYTES: Final = 2**22
_TICK_S: Final = 1.0
_CHUNK: Final = 2**20
_WHOLE: Final = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_TYPES: Final = (*_WHOLE, "float16", "float32", "float64")


class ChannelError(BundleError):
    """The other side is gone, or what it sent has not the agreed form."""


class Channel:
    """One end of two pipes.

    Args:
        incoming: file descriptor to read from.
        outgoing: file descriptor to write to.
        on_wait: called about once a second while the other side is silent; may raise.
    """

    def __init__(
        self, incoming: int, outgoing: int, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._in, self._out, self._on_wait = incoming, outgoing, on_wait
        self._said = time.monotonic()
        for descriptor in (incoming, outgoing):
            os.set_blocking(descriptor, False)

    def close(self) -> None:
        """Close both pipes."""
        os.close(self._in)
        os.close(self._out)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message of plain data.

        Raises:
            ChannelError: the other side is gone.
        """
        content = json.dumps(message).encode()
        self._write(memoryview(len(content).to_bytes(_LENGTH_BYTES, "little") + content))

    def receive(self) -> dict[str, Any]:
        """Wait for a message.

        Raises:
            ChannelError: the other side is gone, or it sent something else.
        """
        head = bytearray(_LENGTH_BYTES)
        self._read(memoryview(head))
        size = int.from_bytes(head, "little")
        if size > _MESSAGE_BYTES:
            raise ChannelError("a message is too long")
        content = bytearray(size)
        self._read(memoryview(content))
        try:
            message = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ChannelError("a message is not JSON") from error
        if not isinstance(message, dict):
            raise ChannelError("a message is not an object")
        return message

    def send_array(self, array: Array) -> None:
        """Send an array, in the order in which it lies in memory where it has one.

        Raises:
            ChannelError: the other side is gone.
        """
        in_columns = array.flags.f_contiguous and not array.flags.c_contiguous
        flat = array.T if in_columns else np.ascontiguousarray(array)
        order = "F" if in_columns else "C"
        self.send({"type": array.dtype.name, "shape": list(array.shape), "order": order})
        self._write(flat.data.cast("B"))

    def receive_array(
        self, shape: tuple[int, ...] | None = None, types: tuple[str, ...] = ()
    ) -> Array:
        """Wait for an array.

        Args:
            shape: that it must have; ``None`` for any.
            types: names of the dtypes that it may have; none for any plain number.

        Raises:
            ChannelError: the other side is gone, or it sent something else.
        """
        head = self.receive()
        name, sizes = head.get("type"), head.get("shape")
        if name not in (types or _TYPES):  # numpy's own reader of names takes far too much
            raise ChannelError("an array of an unexpected type")
        if not isinstance(sizes, list) or any(type(size) is not int for size in sizes):
            raise ChannelError("an array is not described")
        dtype, found = np.dtype(name), tuple(sizes)
        if (shape is not None and found != shape) or min(found, default=1) < 0:
            raise ChannelError("an array of an unexpected shape")
        in_columns = head.get("order") == "F"
        flat = np.empty(found[::-1] if in_columns else found, dtype)
        if flat.size:
            self._read(flat.data.cast("B"))
        return flat.T if in_columns else flat

    def _write(self, content: memoryview) -> None:
        while content:
            self._wait([], [self._out])
            try:
                content = content[os.write(self._out, content[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChannelError("the other side is gone") from error

    def _read(self, content: memoryview) -> None:
        while content:
            self._wait([self._in], [])
            try:
                count = os.readv(self._in, [content[:_CHUNK]])
            except BlockingIOError:
                continue
            if not count:
                raise ChannelError("the other side is gone")
            content = content[count:]

    def _wait(self, readable: list[int], writable: list[int]) -> None:
        while True:
            ready = select.select(readable, writable, [], _TICK_S)
            if time.monotonic() - self._said > _TICK_S:
                self._said = time.monotonic()
                self._on_wait()
            if any(ready):
                return

"""Where code from elsewhere runs: a process that the kernel keeps from what it does not need.

A bundle can run any Python code, and no list of forbidden names can be complete. So the kernel
holds the limits: Landlock for files, a seccomp filter for system calls, and empty namespaces for
the network where the system allows them. Neither the process nor its children can undo them.

A caged process can read the Python installation, the devices of its GPU and the paths it was
granted. It can write to a private temporary folder and the paths it was granted. It cannot open a
socket, start or signal other processes, change the mode or owner of a file, or see the environment
of its parent. :class:`CagedProcess` starts this module, which becomes the keeper of the cage
(:mod:`nestseg.bundle.keeper`) and runs the caged module in a process of its own.
"""

from __future__ import annotations

import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NoReturn, TextIO

from nestseg.bundle import keeper, kernel
from nestseg.bundle.kernel import Grants
from nestseg_prep.errors import InputError

INSIDE: Final = "NESTSEG_CAGED"
_GRANTS: Final = "NESTSEG_CAGE_GRANTS"
TEMPORARY_BYTES: Final = 8 * 2**30
"""Bytes that a caged process may keep in its temporary folder; its keeper ends it above that."""
FILLED: Final = "filled its temporary folder and was ended"
_LINE_BYTES: Final = 2**16

# Variables that a computation needs; everything else in the environment may be a secret.
_KEPT_VARIABLES: Final = (
    *("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TZ"),
    "NESTSEG_DEBUG",
)
_KEPT_PREFIXES: Final = ("CUDA_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "OPENBLAS_", "TORCH_")


class CagedProcess:
    """A process in a cage, with a temporary folder of its own that goes when the process does.

    Args:
        module: what it runs, as ``python -m`` would.
        arguments: of the module.
        grants: what it may touch.
        pass_fds: file descriptors that it inherits.
        variables: added to its environment.
        output: where stdout and stderr go; by default nowhere, because they may hold anything.

    Raises:
        InputError: this system cannot hold a cage.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        grants: Grants,
        *,
        pass_fds: Sequence[int] = (),
        variables: dict[str, str] | None = None,
        output: int = subprocess.DEVNULL,
    ) -> None:
        if reason := kernel.unavailable():
            raise InputError(f"a bundle from elsewhere cannot be caged here: {reason}; {REMEDY}")
        self.folder = Path(tempfile.mkdtemp(prefix="nestseg-cage-"))
        theirs, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(  # noqa: S603  our own module
                # -P: the working directory may hold a torch.py
                [
                    *(sys.executable, "-P", "-m", __name__),
                    *(str(theirs), str(TEMPORARY_BYTES), module, *arguments),
                ],
                env=_environment(self.folder, grants, variables or {}),
                pass_fds=(*pass_fds, theirs),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,  # the keeper outlives who kills our process group
            )
        except BaseException:
            os.close(self._lifeline)
            keeper.remove(self.folder)
            raise
        finally:
            os.close(theirs)

    def close(self, patience_s: float = 0.0) -> int | None:
        """End the process, with everything it left in its temporary folder.

        Args:
            patience_s: how long it may take to end by itself.

        Returns:
            The exit code that it had by itself; ``None`` if it had to be killed.
        """
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(patience_s)
        os.close(self._lifeline)
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        keeper.remove(self.folder)  # in case somebody killed the keeper
        return code


def run(module: str, arguments: Sequence[str], grants: Grants) -> int:
    """Run a module in a cage, and print what it says as plain text.

    Its output is shown without control characters: it could rewrite the terminal with them.

    Returns:
        Its exit code; negative for a signal.

    Raises:
        InputError: this system cannot hold a cage, or the module filled its temporary folder.
    """
    caged = CagedProcess(module, arguments, grants, output=subprocess.PIPE)
    try:
        streams = (caged.process.stdout, caged.process.stderr)
        with ThreadPoolExecutor(2) as relays:
            list(relays.map(_relay, streams, (sys.stdout, sys.stderr)))
        code = caged.process.wait()
    finally:
        caged.close()
    if code == keeper.OVERFULL:
        raise InputError(f"the bundle {FILLED}")
    return code


def _relay(stream: IO[bytes] | None, to: TextIO) -> None:
    while stream and (line := stream.readline(_LINE_BYTES)):
        print(printable(line.decode(errors="replace").rstrip("\r\n")), file=to, flush=True)


def printable(text: str, most: int = 1000) -> str:
    """Foreign text as one line without control characters, cut to a length."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


REMEDY: Final = "run it with --trust if you trust its code"


def inside() -> bool:
    """Whether this process is caged; the variable alone could come from anywhere."""
    if INSIDE not in os.environ:
        return False
    try:
        socket.socket(socket.AF_UNIX).close()
    except PermissionError:
        return True
    return False


def _environment(folder: Path, grants: Grants, more: dict[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    own = {
        # Folders that programs expect to have lead into the temporary one.
        **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"), str(folder)),
        "USER": "nobody",
        "PYTHONPATH": os.pathsep.join(_import_roots()),
        "PYTHONDONTWRITEBYTECODE": "1",
        _GRANTS: grants.to_json(),
    }
    return kept | own | more


def _import_roots() -> list[str]:
    """Folders that nestseg itself is imported from, and those that the user added."""
    names = ("nestseg", "nestseg_prep")
    roots = [str(Path(str(sys.modules[name].__file__)).parents[1]) for name in names]
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys([*roots, *(path for path in added if Path(path).is_absolute())]))


def main(lifeline: str, most_bytes: str, module: str, *arguments: str) -> None:
    """Enter the cage in a process of its own, and run a module there as ``python -m`` does."""
    grants = Grants.from_json(os.environ.pop(_GRANTS))
    parent = os.getpid()
    child = os.fork()
    if child:
        with suppress(OSError):  # the child does the same; whoever comes first
            os.setpgid(child, child)
        _keep(child, int(lifeline), int(most_bytes))
    os.close(int(lifeline))
    os.setpgid(0, 0)
    kernel.enter(grants)
    if os.getppid() != parent:  # it died before the kernel knew that this process has to follow it
        os._exit(1)
    os.environ[INSIDE] = "1"
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _keep(child: int, lifeline: int, most_bytes: int) -> NoReturn:
    """Be the keeper of a process, and end as it does."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):  # else whoever reads its output would wait for this process too
        os.dup2(nowhere, descriptor)
    os.closerange(3, lifeline)
    os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
    code = keeper.keep(child, lifeline, Path(os.environ["TMPDIR"]), most_bytes, kernel.FILE_BYTES)
    if code < 0:  # end by the same signal: the parent can tell it from an exit code
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])

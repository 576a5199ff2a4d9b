"""Where code from elsewhere runs: a process that the kernel keeps from what it does not need.

A bundle can run any Python code, and no list of forbidden names can be complete. So the kernel
holds the limits: Landlock for files, a seccomp filter for system calls, and empty namespaces for
the network where the system allows them. Neither the process nor its children can undo them.

A caged process can read the Python installation, the devices of its GPU and the paths it was
granted. It can write to a private temporary folder and the paths it was granted. It cannot open a
socket, start or signal other processes, change the mode or owner of a file, or see the environment
of its parent. ``python -m nestseg.bundle.cage MODULE ARGS...`` enters the cage and runs the module.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from nestseg.bundle import kernel
from nestseg.bundle.kernel import Grants
from nestseg_prep.errors import InputError

INSIDE: Final = "NESTSEG_CAGED"
_GRANTS: Final = "NESTSEG_CAGE_GRANTS"
TEMPORARY_BYTES: Final = 8 * 2**30
"""Bytes that a caged process may keep in its temporary folder; the parent ends it above that."""

# Variables that a computation needs; everything else in the environment may be a secret.
_KEPT_VARIABLES: Final = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TZ")
_KEPT_PREFIXES: Final = ("CUDA_", "KMP_", "MKL_", "NVIDIA_", "OMP_", "OPENBLAS_", "TORCH_")


class CagedProcess:
    """A process in a cage, with a temporary folder of its own that goes when the process does.

    Args:
        module: what it runs, as ``python -m`` would.
        arguments: of the module.
        grants: what it may touch.
        pass_fds: file descriptors that it inherits.
        variables: added to its environment.
        stdout: where its output goes; by default nowhere, because it may hold anything.

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
        stdout: int = subprocess.DEVNULL,
    ) -> None:
        if reason := kernel.unavailable():
            raise InputError(f"a bundle from elsewhere cannot be caged here: {reason}; {REMEDY}")
        self.folder = Path(tempfile.mkdtemp(prefix="nestseg-cage-"))
        try:
            self.process = subprocess.Popen(  # noqa: S603  our own module
                # -P: the working directory may hold a torch.py
                [sys.executable, "-P", "-m", __name__, module, *arguments],
                env=_environment(self.folder, grants, variables or {}),
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                text=True,
            )
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def overfull(self) -> bool:
        """Whether its temporary folder holds more than is allowed."""
        return _bytes_below(self.folder) > TEMPORARY_BYTES

    def close(self, patience_s: float = 0.0) -> int | None:
        """End the process, with everything it left in its temporary folder.

        Args:
            patience_s: how long it may take to end by itself.

        Returns:
            The exit code that it had by itself; ``None`` if it had to be killed.
        """
        code = None
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


def run(module: str, arguments: Sequence[str], grants: Grants) -> int:
    """Run a module in a cage, and print what it says as plain text.

    Its output is shown without control characters: it could rewrite the terminal with them.

    Returns:
        Its exit code; negative for a signal.

    Raises:
        InputError: this system cannot hold a cage.
    """
    caged = CagedProcess(module, arguments, grants, stdout=subprocess.PIPE)
    try:
        for line in caged.process.stdout or ():
            print(printable(line.rstrip("\n")), flush=True)
            if caged.overfull:
                raise InputError("the bundle filled its temporary folder and was ended")
        return caged.process.wait()
    finally:
        caged.close()


def printable(text: str, most: int = 1000) -> str:
    """Foreign text as one line without control characters, cut to a length."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


REMEDY: Final = "run it with --trust if you trust its code"


def inside() -> bool:
    """Whether this process is caged."""
    return INSIDE in os.environ


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


def _bytes_below(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_blocks * 512
    return total


def main(module: str, *arguments: str) -> None:
    """Enter the cage, then run a module as ``python -m`` does."""
    kernel.enter(Grants.from_json(os.environ.pop(_GRANTS)))
    os.environ[INSIDE] = "1"
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

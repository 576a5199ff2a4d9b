"""``python -m nestseg.bundle.auditing BUNDLE``: the static audit in a process of its own.

It needs torch and all of MONAI, 0.4 GB that a runner would hold until its last case is done.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from nestseg.bundle.findings import Finding
from nestseg_prep.errors import InputError


def refusals(bundle: Path) -> list[str]:
    """What the audit refuses in a bundle, a line each; nothing of the bundle is executed.

    Args:
        bundle: a folder; it may be hostile.

    Raises:
        InputError: the audit itself came to no end.
    """
    command = [sys.executable, "-P", "-m", __name__, str(bundle)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise InputError(f"{bundle.name}: could not be audited; see `nestseg bundle check`")
    lines: list[str] = json.loads(done.stdout.splitlines()[-1])
    return lines


def errors(bundle: Path) -> list[Finding]:
    """What its manifest and the audit refuse in a bundle, found in this process.

    Args:
        bundle: a folder; it may be hostile.
    """
    from nestseg.bundle import audit, findings, manifest  # noqa: PLC0415

    return findings.errors(manifest.check(bundle, demanded=False) + audit.audit(bundle))


def main(bundle: Path) -> None:
    """Print the lines as JSON."""
    print(json.dumps([one.line for one in errors(bundle)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""In the cage: runs the checks of a bundle, and sends what they find over a pipe."""

from __future__ import annotations

import sys
from pathlib import Path

from nestseg.bundle import checks
from nestseg.bundle.caged_worker import failure
from nestseg.bundle.channel import Channel


def main(incoming: str, outgoing: str) -> None:
    """Check the bundle that the parent names."""
    channel = Channel(int(incoming), int(outgoing))
    request = channel.receive()
    schema = request["schema"]
    try:
        found = checks.run(Path(request["bundle"]), Path(schema) if schema else None)
    except Exception as error:  # noqa: BLE001  whatever a bundle's code raises, the parent decides
        channel.send(failure(error))
        return
    texts = [[one.file, one.place, one.problem, one.remedy, str(one.severity)] for one in found]
    channel.send({"findings": texts})


if __name__ == "__main__":
    main(*sys.argv[1:])

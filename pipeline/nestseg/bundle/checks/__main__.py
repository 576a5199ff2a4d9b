"""In the cage: runs the checks of a bundle, and sends what they find over a pipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nestseg.bundle import checks
from nestseg.bundle.caged_worker import failure
from nestseg.bundle.channel import Channel
from nestseg.bundle.findings import Finding
from nestseg.bundle.review import review


def main(incoming: str, outgoing: str) -> None:
    """Check the bundle that the parent names."""
    channel = Channel(int(incoming), int(outgoing))
    request = channel.receive()
    bundle, schema = Path(request["bundle"]), request["schema"]
    try:
        channel.send(_texts(review(bundle)))
        found = checks.run(bundle, Path(schema) if schema else None)
    except Exception as error:  # noqa: BLE001  whatever a bundle's code raises, the parent decides
        channel.send(failure(error))
        return
    channel.send(_texts(found))


def _texts(found: list[Finding]) -> dict[str, Any]:
    texts = [[one.file, one.place, one.problem, one.remedy, str(one.severity)] for one in found]
    return {"findings": texts}


if __name__ == "__main__":
    main(*sys.argv[1:])

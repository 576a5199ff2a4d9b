"""What a command cost, its children's part included."""

from __future__ import annotations

import sys

from benchmarks.peers import measure

HALF_A_GIGABYTE = """
import json, subprocess, sys, time
child = "import time; data = bytearray(150_000_000); time.sleep(1.5)"
process = subprocess.Popen([sys.executable, "-c", child])
data = bytearray(150_000_000)
process.wait()
print("something else")
print(json.dumps({"inner_s": 1.5, "name": "x"}))
"""


def test_memory_is_that_of_the_whole_tree() -> None:
    found = measure.run([sys.executable, "-c", HALF_A_GIGABYTE])
    assert found.code == 0
    assert 300e6 < found.peak_rss < 600e6
    assert found.said == {"inner_s": 1.5, "name": "x"}
    assert set(found.figures) == {"inner_s", "wall_s", "cpu_s", "peak_gb"}


def test_processor_time_is_that_of_the_children_too() -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    assert measure.run([sys.executable, "-c", code]).cpu_s >= 0.3


def test_a_failed_command_says_why() -> None:
    code = "import sys; print('no such thing', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    found = measure.run([sys.executable, "-c", code, str(measure.UNAVAILABLE)])
    assert (found.code, found.error) == (measure.UNAVAILABLE, "no such thing")

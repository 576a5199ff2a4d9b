"""What OpenVINO does to the process that it computes in."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

DROPPED_ELSEWHERE = """
import gc, os, signal, threading, torch
from nestseg.runtime.backends import openvino
from nestseg.runtime.contract import Task

cpu = torch.device("cpu")
held = [openvino.build(Task(torch.nn.Conv2d(1, 1, 3), (1, 1, 8, 8), False, "fp32", cpu, 1))]

def drop():
    held.clear()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_heard_after_the_last_graph_was_dropped_in_another_thread() -> None:
    command = [sys.executable, "-c", DROPPED_ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")

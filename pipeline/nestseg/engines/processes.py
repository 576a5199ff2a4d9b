"""Several processes that train one network together."""

from __future__ import annotations

import os

import torch
from torch import distributed


def join_processes() -> int:
    """Join the processes that ``torchrun`` started, each with a GPU of its own where there are any.

    They talk by NCCL on GPUs and by gloo on CPUs. From here on the device ``cuda`` is the GPU of
    this process.

    Returns:
        This process's rank; 0 is the one that logs and writes.
    """
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return int(distributed.get_rank())

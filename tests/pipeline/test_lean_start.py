"""A worker starts without what it never uses, and computes all the same."""

import json
import subprocess
import sys

import numpy as np

from nestseg.bundle import locate
from nestseg_prep.volume import Volume
from tests.opened import opened

CODE = """
import json, sys
from nestseg.bundle.lean_start import LEFT_OUT, import_monai
import_monai()
import numpy as np
import torch
from nestseg.bundle.bundle import load_bundle
from nestseg_prep.volume import Volume
torch.set_num_threads(1)
image = np.load(sys.argv[1])
mask = load_bundle("hippocampus_unetpp").predict(Volume(image, np.eye(4))).mask.array
absent = [name for name in (*LEFT_OUT, "sympy") if name in sys.modules]
import ignite.engine
print(json.dumps({"absent": absent, "mask": mask.tolist()}))
"""


def test_a_lean_start_leaves_out_what_it_says_and_changes_no_mask(tmp_path):
    image = np.random.default_rng(0).normal(size=(33, 40, 29)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(tmp_path / "image.npy")],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["absent"] == []
    usual = opened(locate.find("hippocampus_unetpp")).predict(Volume(image, np.eye(4))).mask.array
    assert np.mean(np.asarray(told["mask"]) == usual) > 0.999  # threads may differ

"""Looking at a folder must not wait for a deep-learning stack."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["nestseg_prep.dicom.scan", "nestseg_prep.prepare", "nestseg_prep.phantom"]
)
def test_importing_loads_nothing_heavy(module):
    code = (
        f"import sys, {module}\n"
        "print([name for name in ('torch', 'monai', 'highdicom', 'SimpleITK')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "[]"

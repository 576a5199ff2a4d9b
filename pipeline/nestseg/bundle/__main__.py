"""``python -m nestseg.bundle FOLDER``: render every recipe below a folder of bundles."""

from __future__ import annotations

import sys
from pathlib import Path

from nestseg.bundle import recipe

for folder in recipe.recipes(Path(sys.argv[1])):
    recipe.write(folder)
    print(folder)

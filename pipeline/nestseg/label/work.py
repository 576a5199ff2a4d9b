"""The folder that a label server works in, beside the studies and never among them.

``bundles/`` holds a copy of every bundle: what is trained here changes the copy, and the bundle it
was made from stays as it is. A copy that is there already is kept, with what it has learned; delete
it to begin again from the original.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nestseg.bundle import trust
from nestseg.bundle.recipe import RECIPE
from nestseg_prep.errors import OutputError

WEIGHTS: Final = "models/model.pt"
_COPIED: Final = ("LICENSE", RECIPE, "configs", "docs", "scripts", WEIGHTS)
_PRIVATE: Final = 0o700


@dataclass(frozen=True)
class Work:
    """Paths below the working folder.

    Attributes:
        root: the folder.
        caged: names of the bundles whose code runs in cages only.
    """

    root: Path
    caged: frozenset[str] = frozenset()

    @property
    def bundles(self) -> Path:
        """Working copies of bundles, by their names."""
        return self.root / "bundles"

    @property
    def levels(self) -> Path:
        """Bundles pruned to one level, below the digest of the weights they were pruned from."""
        return self.root / "levels"

    @property
    def uploads(self) -> Path:
        """What clients send and get: temporary files."""
        return self.root / "uploads"

    @property
    def sessions(self) -> Path:
        """Images of sessions of MONAI Label."""
        return self.root / "sessions"

    @property
    def images(self) -> Path:
        """Images that were converted or fetched."""
        return self.root / "images"

    @property
    def runs(self) -> Path:
        """Training in progress."""
        return self.root / "runs"

    @property
    def scores(self) -> Path:
        """Scores of active learning, an SQLite file."""
        return self.root / "scores.sqlite"

    def make(self) -> None:
        """Make the folders, open to their owner alone: they hold images of patients.

        Raises:
            OutputError: they cannot be made.
        """
        try:
            for name in ("bundles", "levels", "uploads", "sessions", "images", "runs"):
                path: Path = getattr(self, name)
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(_PRIVATE)
            self.root.chmod(_PRIVATE)
        except OSError as error:
            raise OutputError(
                f"{self.root}: cannot be written ({error.strerror}); choose another --work"
            ) from error

    def needs_cage(self, bundle: Path) -> bool:
        """Whether the working copy of a bundle may only run in a cage.

        A copy of this name that was there already may have been made from another bundle.
        """
        return trust.needs_cage(bundle) or not trust.same_code(self.adopt(bundle), bundle)

    def adopt(self, bundle: Path) -> Path:
        """The working copy of a bundle, made if there is none.

        Raises:
            InputError: a bundle from elsewhere holds a link that leads out of it.
        """
        copy = self.bundles / bundle.name
        if copy.is_dir():
            return copy
        if trust.needs_cage(bundle):
            trust.check_links(bundle)
        unfinished = Path(tempfile.mkdtemp(dir=self.bundles, prefix=f".{bundle.name}."))
        for name in _COPIED:
            path = bundle / name
            if path.is_dir():
                shutil.copytree(path, unfinished / name)
            elif path.is_file():
                (unfinished / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, unfinished / name)
        try:
            unfinished.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(unfinished)
        return copy

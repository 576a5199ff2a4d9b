"""MONAI Label's app: every bundle and level, fine-tuning, scoring and strategies."""

from __future__ import annotations

import copy
import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.sessions import Sessions

from nestseg import __version__
from nestseg.bundle.info import read_info
from nestseg.bundle.locate import find
from nestseg.label import caged, places
from nestseg.label.active import MostUncertain, Uncertain, method_name
from nestseg.label.batch import BatchSegment
from nestseg.label.infer import SegmentTask
from nestseg.label.models import Models
from nestseg.label.pacs_studies import PacsStudies
from nestseg.label.scores import Scores
from nestseg.label.studies import Studies
from nestseg.label.train import FineTune
from nestseg.label.traits import Traits, traits
from nestseg.label.work import Work
from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.pacs.addresses import Web
from nestseg_prep.errors import InputError

_BOTH: Final = ("CT", "MR")
_SCORE_SECONDS: Final = 20.0


class NestsegApp(MONAILabelApp):
    """Every bundle of ``conf["bundles"]`` (names or folders, with commas between them).

    Args:
        app_dir: folder of ``main.py``.
        studies: a folder, or the address of a DICOMweb server.
        conf: ``bundles``; ``work``, the working folder (default: in ``app_dir``).
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self._work = Work(Path(conf.get("work") or Path(app_dir) / "work"))
        self._work.make()
        # Files that clients send and get stay among themselves, where paths are allowed.
        tempfile.tempdir = str(self._work.uploads)
        wanted = [name.strip() for name in conf.get("bundles", "").split(",") if name.strip()]
        if not wanted:
            raise InputError("no bundles; give --bundles with names or folders")
        self._bundles: dict[str, Path] = {}
        self._sources: dict[str, Path] = {}
        for source in map(find, wanted):
            self._sources[source.name] = source
            self._bundles[source.name] = self._work.adopt(source)
        in_cages = [name for name, one in self._sources.items() if self._work.needs_cage(one)]
        self._work = replace(self._work, caged=frozenset(in_cages))
        self._traits = {name: self._traits_of(bundle) for name, bundle in self._bundles.items()}
        self._models = Models(self._work)
        self._methods = self._uncertain()
        self._tasks = self._segment_tasks()
        self._classes = [self._tasks[name].classes for name in self._bundles]
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="nestseg",
            description="U-Net-family bundles, with active learning from their heads",
            version=__version__,
        )

    def init_infers(self) -> dict[str, Any]:
        """One task per bundle, and one per level that it can be pruned to."""
        return dict(self._tasks)

    def init_trainers(self) -> dict[str, Any]:
        """One task per bundle that can be trained on whole images, without a locator."""
        return {
            name: FineTune(bundle, self._work)
            for name, bundle in self._bundles.items()
            if (bundle / "configs" / "train.json").is_file() and not read_info(bundle).locator
        }

    def init_scoring_methods(self) -> dict[str, Any]:
        """How far the heads of a bundle disagree, and how undecided it is."""
        return dict(self._methods)

    def init_strategies(self) -> dict[str, Any]:
        """Random, first, and by each score."""
        strategies: dict[str, Any] = {"random": Random(), "first": First()}
        for name, method in self._methods.items():
            strategies[name] = MostUncertain(method, _SCORE_SECONDS)
        return strategies

    def init_batch_infer(self) -> Any:
        """Every image, whatever becomes of the one before it."""
        return BatchSegment()

    def init_datastore(self) -> Any:
        """The studies, read and written by nestseg."""
        watch = os.environ.get("MONAI_LABEL_DATASTORE_AUTO_RELOAD", "true").lower() == "true"
        if not self.studies.startswith(("http://", "https://")):
            return Studies(Path(self.studies), self._work.images, self._classes, watch=watch)
        kinds = {
            kind
            for b in self._bundles.values()
            for kind in read_info(b).selection.modalities or _BOTH
        }
        web = Web(self.studies.rstrip("/"))
        return PacsStudies(
            web, sorted(kinds), self._work.images, self._classes, self._algorithm, watch=watch
        )

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Segment an image of the studies, or one that a client sent.

        Raises:
            InputError: no such model or image, or one that cannot be used; one line, with the mend.
        """
        task = self._infers.get(request.get("model") or "")
        if task is None:
            raise InputError(f"no such model; there are {', '.join(sorted(self._infers))}")
        store = datastore or self.datastore()
        asked = copy.deepcopy(request)
        image = str(asked.get("image") or "")
        named = Path(image).is_absolute()
        roots = [*store.roots(), self._work.uploads, self._work.sessions]
        path = places.allowed(image, roots) if named else store.source(image)
        file, result = task({**asked, "image": str(path)})
        if isinstance(store, PacsStudies):
            store.last_result = (file, task.algorithm)
        label = file
        if asked.get("save_label") and not named:
            tag = asked.get("label_tag", DefaultLabelTag.ORIGINAL)
            info = [{"name": name, "idx": idx} for name, idx in task.labels.items()]
            label = store.save_label(image, file, tag, {"label_info": info, "params": result})
        return {"label": label, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": result}

    def async_scoring(self, method: str | None, params: Any = None) -> Any:
        """Start a process that scores, if there is anything to score that anybody asked for."""
        if method is None and self._server_mode:
            running, _ = AsyncTask.status("scoring", check_if_running=True)
            method = None if running else self._stale()
            if method is None:
                return {}
        return super().async_scoring(method, params)

    def _stale(self) -> str | None:
        """A scoring method with something to do; ``None`` also while the studies do not answer."""
        with suppress(InputError):
            for name, one in self._scoring_methods.items():
                if one.used and one.missing(self.datastore()):
                    return str(name)
        return None

    def _load_sessions(self, load: bool = False) -> Any:
        return Sessions(str(self._work.sessions)) if load else None

    def _traits_of(self, bundle: Path) -> Traits:
        return caged.traits(bundle) if bundle.name in self._work.caged else traits(bundle)

    def _uncertain(self) -> dict[str, Uncertain]:
        scores, methods = Scores(self._work.scores), {}
        for bundle in self._bundles.values():
            in_cage = bundle.name in self._work.caged
            for measure in self._traits[bundle.name].measures:
                method = Uncertain(bundle, measure, scores, caged=in_cage)
                methods[method_name(bundle, measure)] = method
        return methods

    def _segment_tasks(self) -> dict[str, SegmentTask]:
        tasks = {}
        for name, bundle in self._bundles.items():
            source = self._sources[name]
            tasks[name] = SegmentTask(source, bundle, self._models)
            for level in self._traits[name].levels:
                tasks[f"{name}_L{level}"] = SegmentTask(source, bundle, self._models, level)
        return tasks

    def _algorithm(self, model: str) -> Algorithm | None:
        """What a SEG says of a model, ``None`` where there is no such model."""
        task = self._tasks.get(model)
        return task.algorithm if task is not None and task.is_valid() else None

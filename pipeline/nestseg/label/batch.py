"""MONAI Label's batch inference: one image after the other, and a bad one stops none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from nestseg_prep.errors import describe

_LOG: Final = logging.getLogger(__name__)


class BatchSegment(BatchInferTask):
    """Labels of all, of the labelled or of the unlabelled images, below ``labels/original``."""

    def __call__(
        self, request: dict[str, Any], datastore: Any, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Segment every image that is asked for.

        Returns:
            Image → what became of it: its label, or ``{"error": one line}``.
        """
        results: dict[str, Any] = {}
        for image in sorted(self.get_images(request, datastore)):
            tag = request.get("label_tag", DefaultLabelTag.ORIGINAL)
            asked = {**request, "image": image, "save_label": True, "label_tag": tag}
            try:
                done = infer(asked, datastore)
            except Exception as error:  # noqa: BLE001  one bad image must never stop the others
                results[image] = {"error": describe(error)}
                _LOG.warning("an image was not segmented: %s", describe(error))
                continue
            Path(done.pop("file")).unlink(missing_ok=True)
            results[image] = done
        return results

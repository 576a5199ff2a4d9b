"""How a network is run over an image: MONAI inferers, named as ``_target_`` by the bundles."""

from nestseg.inferers.answers import Answers
from nestseg.inferers.autocast import AutocastInferer
from nestseg.inferers.heads import EveryHeadInferer
from nestseg.inferers.overlap_tile import OverlapTileInferer

__all__ = ["Answers", "AutocastInferer", "EveryHeadInferer", "OverlapTileInferer"]

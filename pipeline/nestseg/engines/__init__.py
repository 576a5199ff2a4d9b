"""Training: what stands around MONAI's ignite engines."""

from nestseg.engines.diagnostics import LayerDiagnostics

__all__ = ["LayerDiagnostics"]

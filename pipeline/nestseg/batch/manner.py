"""How a run over a folder goes about its work. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nestseg.batch.engines import Engine
from nestseg_prep.errors import InputError

if TYPE_CHECKING:
    from nestseg.batch.jobs import Settings
    from nestseg.batch.pool import Pool


@dataclass(frozen=True)
class Manner:
    """How a run goes about its work; none of it changes results.

    Attributes:
        workers: processes; 0 for none but this one, ``None`` for one, or with Ray for as many
            actors as the cluster holds.
        device: see ``nestseg.batch.jobs.Settings``.
        timeout_s: for a case.
        memory_mb: for a case.
        retry: try quarantined cases again.
        shard: ``(3, 8)`` for the third of eight parts of the cases.
        log_json: say everything in JSON.
        show_phi: name the files of cases.
        engine: what runs the cases.
        ray_address: of a Ray cluster; ``None`` starts one here.
    """

    workers: int | None = None
    device: str | None = None
    timeout_s: float | None = None
    memory_mb: int | None = None
    retry: bool = False
    shard: tuple[int, int] | None = None
    log_json: bool = False
    show_phi: bool = False
    engine: Engine = Engine.LOCAL
    ray_address: str | None = None

    def check(self) -> None:
        """Raise an InputError where it contradicts itself."""
        if self.workers == 0 and self.engine is Engine.RAY:
            raise InputError("--engine ray needs a worker; give --workers 1 or more, or leave it")
        if self.workers == 0 and (self.timeout_s is not None or self.memory_mb is not None):
            raise InputError("--timeout and --max-memory need a worker; give --workers 1 or more")


def pool_maker(settings: Settings, manner: Manner) -> Callable[[], Pool]:
    """What makes the workers, or what stands for them; torch is imported only then."""

    def make() -> Pool:
        if manner.workers == 0:
            from nestseg.batch.in_process import InProcessPool  # noqa: PLC0415

            return InProcessPool(settings)
        from nestseg.batch.jobs import Limits  # noqa: PLC0415

        limits = Limits(manner.memory_mb, manner.timeout_s)
        if manner.engine is Engine.RAY:
            from nestseg.batch.ray_pool import RayPool  # noqa: PLC0415

            return RayPool(settings, limits, manner.workers or 0, manner.ray_address)
        from nestseg.batch.local import LocalPool  # noqa: PLC0415

        return LocalPool(settings, limits, manner.workers or 1)

    return make

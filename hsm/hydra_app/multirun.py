"""What Hydra's multirun does around a launcher: its log, and how it ends after a failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import HydraContext
from omegaconf import DictConfig

from hsm.core.record.job import JobState
from hsm.core.space.choosing import is_study
from hsm.hydra_app.returns import HydraJobFailed

#: Hydra's own sweeper, and hsm's.
_RAISING = (
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra_plugins.hsm_sweeper.sweeper.HsmSweeper",
)


def configure_logging(context: HydraContext, config: DictConfig) -> None:
    """Make the log what Hydra's config says, whatever a job or a sweeper has made of it."""
    options: dict[str, Any] = {}
    if hasattr(context, "execution_whitelist"):  # Hydra 1.4
        options["execution_whitelist"] = context.execution_whitelist
    configure_log(config.hydra.hydra_logging, config.hydra.verbose, **options)


def raises_failures(config: DictConfig) -> bool:
    """Whether the sweeper is Hydra's own, or hsm's: it raises the first failure, and so ends.

    Not under a method that learns from failures.
    """
    sweeper = config.hydra.sweeper
    return sweeper.get("_target_") in _RAISING and not is_study(sweeper.get("method"))


def will_raise(config: DictConfig, returns: Sequence[JobReturn]) -> bool:
    """Whether the sweeper will raise a failure among these, and so end the multirun."""
    has_failure = any(each.status is not JobStatus.COMPLETED for each in returns)
    return has_failure and raises_failures(config)


def failures_first(returns: Sequence[JobReturn]) -> list[JobReturn]:
    """Sort jobs that were cancelled, because another one failed, behind that one."""
    return sorted(returns, key=_is_cancelled)


def _is_cancelled(job_return: JobReturn) -> bool:
    error = job_return._return_value
    return isinstance(error, HydraJobFailed) and error.job.state is JobState.CANCELLED

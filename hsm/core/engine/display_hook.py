"""How a display reaches the core, which must not import one.

    hsm/__init__.py --set_display_factory--> here <--display_factory-- JobManager, LocalManager

The package `hsm` knows both sides and sets the factory; Python runs it before any module of the
core. Why not an entry point: those exist only for installed packages. Why not an argument: the
classes above should show progress without being asked to. The factory imports nothing until it
makes a display.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hsm.core.engine.compute_source import ComputeSource, RunningJob, SweepDisplay
    from hsm.core.record.paths import SweepPaths


class DisplayFactory(Protocol):
    """Makes displays; `progress` is one of "auto", "rich", "plain", "none"."""

    def __call__(
        self,
        progress: str,
        *,
        show_output: bool,
        paths: SweepPaths,
        running: Callable[[], Sequence[RunningJob]],
        title: str = "",
    ) -> SweepDisplay: ...


_factories: list[DisplayFactory] = []


def set_display_factory(factory: DisplayFactory) -> None:
    """Have all displays made by `factory` from now on."""
    _factories[:] = [factory]


def display_factory() -> DisplayFactory:
    """The factory that makes displays."""
    return _factories[0]


def display_of(
    source: ComputeSource,
    paths: SweepPaths,
    title: str,
    *,
    make: DisplayFactory | None = None,
    running: Callable[[], Sequence[RunningJob]] | None = None,
    **options: Any,
) -> SweepDisplay:
    """A display of a sweep of `source`, of the kind that the source's settings name.

    Args:
        source: runs the sweep's jobs.
        paths: the sweep's.
        title: names the sweep.
        make: makes the display; default: hsm's own factory.
        running: lists the sweep's running jobs; default: all running jobs of the source.
        options: passed on to `make`.
    """
    return (make or display_factory())(
        str(source.conf.progress),
        show_output=source.conf.show_output,
        paths=paths,
        running=running or source.running,
        title=title,
        **options,
    )

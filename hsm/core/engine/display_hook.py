"""How a display reaches the core, which must not import one.

    hsm/__init__.py --set_display_factory--> here <--display_factory-- JobManager, LocalManager

`hsm` itself, the package that knows both sides, says how displays are made; and Python runs it
before any module of the core. A hook rather than an entry point, as those are known for installed
packages alone; rather than an argument, as the classes above are to show progress without being
told. The factory imports nothing until a display is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hsm.core.engine.compute_source import ComputeSource, RunningJob, SweepDisplay
    from hsm.core.record.paths import SweepPaths


class DisplayFactory(Protocol):
    """Makes a display; `progress` is one of "auto", "rich", "plain", "none"."""

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
    """From now on displays are made by `factory`."""
    _factories[:] = [factory]


def display_factory() -> DisplayFactory:
    """How displays are made."""
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
    """A display of a sweep of `source`, of the kind that its settings name.

    Args:
        paths: where the sweep lies.
        title: names it.
        make: how displays are made; hsm's own by default.
        running: what runs of it; by default all that runs in the source.
        options: others that `make` takes.
    """
    return (make or display_factory())(
        str(source.conf.progress),
        show_output=source.conf.show_output,
        paths=paths,
        running=running or source.running,
        title=title,
        **options,
    )

"""What the tests of displays share: jobs in any state, and a display on an emulated terminal."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence

from rich.console import Console

from helpers.processes import SOURCE, wait_for
from helpers.terminal import Screen
from hsm.core.engine.compute_source import RunningJob
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display.rich_display import RichDisplay

MODES = ("rich", "plain", "none")
T0 = 1_700_000_000.0


def pending(num: int, label: str = "") -> Job:
    return Job(num, f"sweep_{num}", label)


def running(num: int, label: str = "", *, started: float = T0) -> Job:
    job = pending(num, label)
    job.start(started, 1000 + num)
    return job


def ended(
    num: int,
    state: JobState = JobState.COMPLETED,
    label: str = "",
    *,
    started: float = T0,
    seconds: float = 10.0,
    reason: str | None = None,
    exit_code: int | None = None,
) -> Job:
    job = running(num, label, started=started)
    job.end(started + seconds, Ending(state, reason=reason, exit_code=exit_code))
    return job


def environment() -> dict[str, str]:
    """For scripts: with the streams that Python has by default, which are buffered."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**env, "PYTHONPATH": str(SOURCE)}


class Terminal(io.StringIO):
    """Takes itself for one."""

    def isatty(self) -> bool:
        return True


class Rich:
    """A rich display, and what is to be seen on its terminal."""

    def __init__(
        self,
        paths: SweepPaths,
        running: Callable[[], Sequence[RunningJob]] = list,
        *,
        width: int = 80,
        height: int = 24,
        show_output: bool = False,
    ) -> None:
        self.file = io.StringIO()
        self._screen, self._shown = Screen(lines=height), 0
        self.console = Console(
            file=self.file, force_terminal=True, width=width, height=height, highlight=False
        )
        self.display = RichDisplay(
            paths, running, title="digits", show_output=show_output, console=self.console
        )

    @property
    def screen(self) -> Screen:
        """What is to be seen now."""
        written = self.file.getvalue()
        self._screen.write(written[self._shown :])
        self._shown = len(written)
        return self._screen

    def wait_for(self, text: str) -> str:
        """Wait until `text` is on the screen; returns all that was there then."""

        def look() -> str:
            shown = self.screen.text
            return shown if text in shown else ""

        return wait_for(look, f"{text!r} on the screen")

"""Displays that only append lines, for files, pipes and simple terminals; and a silent one."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.core.record.job import Job, JobState
from hsm.display import wording
from hsm.display.base import Display
from hsm.display.counts import FAILURES


class NoDisplay(Display):
    """Shows nothing, not even failures, except the jobs' output if show_output is set."""

    def _show_output(self, job: Job, stream: str, line: str) -> None:
        self._print(f"[{job.num}] {line}")

    def _print(self, *lines: str) -> None:
        """Print `lines` with one write, so that no other thread's lines get in between."""
        self.stream.write("\n".join(lines) + "\n")


class PlainDisplay(NoDisplay):
    """Prints a line when a job starts or ends, and details of failures; never rewrites a line."""

    def _show_start(self, job: Job) -> None:
        self._print(self._tally() + wording.started(job))

    def _show_end(self, job: Job) -> None:
        if job.state is JobState.CANCELLED and job.duration is None:
            # It never started. There may be thousands of these when a sweep is stopped, so only
            # the summary counts them.
            return
        lines = [self._tally() + wording.ended(job)]
        if job.state in FAILURES:
            lines += [f"    {text}" for text, _ in self._failure_details(job)]
        self._print(*lines)

    def _show_best(self, text: str) -> None:
        self._print(text)

    def _tally(self) -> str:
        return f"[{self.counts.ended}/{self.counts.total}] "

    def _show_message(self, text: str) -> None:
        self._print(text)

    def _show_summary(self, lines: Sequence[str]) -> None:
        self._print(*lines)

"""Displays that only ever append lines: for files, pipes and simple terminals, and for silence."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.core.record.job import Job, JobState
from hsm.display import wording
from hsm.display.base import Display
from hsm.display.counts import FAILURES


class NoDisplay(Display):
    """Shows the jobs' output if that is asked for, and nothing else, not even failures."""

    def _show_output(self, job: Job, stream: str, line: str) -> None:
        self._print(f"[{job.num}] {line}")

    def _print(self, *lines: str) -> None:
        """Print `lines` with a single write: nothing of another thread comes between them."""
        self.stream.write("\n".join(lines) + "\n")


class PlainDisplay(NoDisplay):
    """One line per start and end of a job, with more on failures; nothing that rewrites lines."""

    def _show_start(self, job: Job) -> None:
        self._print(self._tally() + wording.started(job))

    def _show_end(self, job: Job) -> None:
        if job.state is JobState.CANCELLED and job.duration is None:
            # It never started, like maybe thousands of others when a sweep is stopped: the summary
            # counts them.
            return
        lines = [self._tally() + wording.ended(job)]
        if job.state in FAILURES:
            lines += [f"    {line}" for line in wording.failure_details(job, self.paths)]
        self._print(*lines)

    def _tally(self) -> str:
        return f"[{self.counts.ended}/{self.counts.total}] "

    def _show_message(self, text: str) -> None:
        self._print(text)

    def _show_summary(self, lines: Sequence[str]) -> None:
        self._print(*lines)

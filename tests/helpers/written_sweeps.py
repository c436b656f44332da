"""Sweeps written by hand, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsm.core.record.gpu_facts import FIELD, RecordedGpu
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.results.collect import collect_results
from hsm.core.results.results_table import Results


class Sweeps:
    """Writes a sweep's journal by hand; jobs are numbered in the order of their parameters.

    `found` are the GPUs that its launch record names.
    """

    def __init__(
        self, directory: Path, *, found: Sequence[RecordedGpu] = (), **settings: Any
    ) -> None:
        self.paths = SweepPaths(directory)
        facts = {FIELD: [gpu.record() for gpu in found]} if found else {}
        self.journal = Journal(self.paths, "demo", settings, facts=facts)
        self.jobs: list[Job] = []

    def submit(self, *params: dict[str, Any]) -> None:
        first = len(self.jobs)
        new = [Job(n, f"demo_{n}", "", values) for n, values in enumerate(params, start=first)]
        self.journal.submit(new)
        self.jobs += new

    def start(self, num: int, *, gpus: list[int | str] | None = None) -> None:
        self.jobs[num].start(100.0, 42).gpus = gpus
        self.journal.start(self.jobs[num])

    def retry(self, num: int, gpus: list[int | str] | None = None, **facts: Any) -> None:
        """Start the job, have that attempt fail, and let it wait for another one."""
        self.start(num, gpus=gpus)
        self.jobs[num].retry(102.5, Ending(**facts))
        self.journal.retry(self.jobs[num])

    def end(
        self,
        num: int,
        state: JobState = JobState.COMPLETED,
        *,
        gpus: list[int | str] | None = None,
        **facts: Any,
    ) -> None:
        """Start the job, and end it at once."""
        self.start(num, gpus=gpus)
        self.jobs[num].end(102.5, Ending(state, **facts))
        self.journal.end(self.jobs[num])

    def write(self, num: int, name: str, content: object) -> None:
        """Put a file into a job's directory; text as it is, all else as JSON."""
        path = self.paths.job_dir(num) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def results(self, reason: str = "finished") -> Results:
        self.journal.close(reason)
        return collect_results(self.paths.sweep_dir)

    def read(self) -> Sweep:
        """The sweep as it is now."""
        return read_sweep(self.paths.sweep_dir, alive=True)

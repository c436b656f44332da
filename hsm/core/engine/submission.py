"""From what a caller submits to the jobs of a sweep, and to what its journal is told of them.

    parameter combinations --make_specs--> JobSpec --OpenSweep.handle--> JobHandle
               program --------^                          `--record--> journal

Before that, a source claims the sweep's directory, and learns whether it goes on with a sweep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from hsm.core.engine.backend import Work
from hsm.core.engine.ledger import JobDir, JobHandle
from hsm.core.program.program import Program
from hsm.core.record.claim import claim_new, is_there_to_resume
from hsm.core.record.job import Job
from hsm.core.record.journal import Journal
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import register
from hsm.core.record.resume import Match, Resumption, open_sweep
from hsm.core.settings.resolve import SweepConf


@dataclass(frozen=True)
class JobSpec:
    """A job to submit, for callers that number and describe their jobs themselves.

    Attributes:
        num: its number in the sweep.
        params: its parameters, for the record; JSON must hold them.
        label: one line that tells it from the others.
        argument: what its function is called with; picklable.
        makes_own_dir: its own process makes its directory, and reports which one.
        directory: which one that is.
        command: what it execs, word by word; None if it calls a function.
        earlier: what it was in the sweep that is resumed, if there was one.
    """

    num: int
    params: Mapping[str, Any]
    label: str
    argument: Any
    makes_own_dir: bool = False
    directory: JobDir = JobDir.USUAL
    command: tuple[str, ...] | None = None
    earlier: Match | None = None


@dataclass
class OpenSweep:
    """What a source keeps of a sweep.

    Attributes:
        journal: its record.
        next_num: the number of its next job.
        resumption: what knows its earlier jobs, if it is resumed.
    """

    journal: Journal
    next_num: int = 0
    resumption: Resumption | None = None

    @classmethod
    def at(
        cls,
        paths: SweepPaths,
        sweep_id: str,
        conf: SweepConf,
        program: Mapping[str, Any] | None,
        lock: LockFile | None,
        resumption: Resumption | None,
    ) -> OpenSweep:
        """Begin the journal of a sweep, or go on with it.

        Args:
            program: what the jobs run, for the record.
            lock: the directory's, if the caller holds it.
            resumption: of a sweep to go on with.

        Raises:
            SweepInUse: another launcher works there.
        """
        file = None if resumption is None else resumption.journal_file
        settings = plain_settings(conf)
        journal = Journal(paths, sweep_id, settings, program=program, lock=lock, file=file)
        register(sweep_id, paths.sweep_dir)
        return cls(journal, resumption=resumption)

    def handle(self, spec: JobSpec, work: Work) -> JobHandle:
        """The job of `spec`, as it is while the source has it.

        Args:
            work: what it does, if it has no command of its own.
        """
        self.next_num = max(self.next_num, spec.num + 1)
        if spec.command is not None:
            work = Work(command=spec.command)
        job = spec.earlier.job if spec.earlier else None
        runs = spec.earlier is None or spec.earlier.runs
        if job is None:
            job_id = f"{self.journal.sweep_id}_{spec.num}"
            job = Job(spec.num, job_id, spec.label, dict(spec.params))
        elif runs:
            job.requeue()
            job.job_dir = None  # The sweep's directory may have been moved since.
            job.params = dict(spec.params)  # At hand, where the record's lie beside the journal.
        if not spec.makes_own_dir and job.job_dir is None:
            job.job_dir = self.journal.paths.job_dir(spec.num)
        return JobHandle(
            job,
            work,
            spec.argument,
            self.journal,
            os.getcwd(),
            is_over=not runs,
            directory=spec.directory,
        )


def claim(
    paths: SweepPaths, program: Program, conf: SweepConf, *, resumes: bool
) -> tuple[LockFile, Resumption | None]:
    """Take a directory for a sweep: for one to go on with, if `resumes` and there is one, or anew.

    Returns:
        The lock on it, and what tells its earlier jobs; None for a new sweep.

    Raises:
        SettingsError: the directory holds an earlier sweep, or cannot be written.
        SweepInUse: another launcher works there.
        SweepChanged, JournalError: the sweep cannot be resumed.
    """
    if resumes and is_there_to_resume(paths):
        return open_sweep(
            paths,
            conf.rerun.value,
            program.files(),
            program.record(),
            accept_changes=conf.accept_changes,
        )
    return claim_new(paths, shared=conf.share_with_group), None


def give_back(lock: LockFile, resumption: Resumption | None) -> None:
    """What `claim` has taken: no sweep was begun with it."""
    if resumption is not None and resumption.journal_file is not None:
        resumption.journal_file.close()
    lock.release()


def make_specs(
    combinations: Sequence[Mapping[str, Any]],
    program: Program,
    paths: SweepPaths,
    *,
    first: int = 0,
    resumption: Resumption | None = None,
) -> list[JobSpec]:
    """One spec per parameter combination, numbered from `first`, or as the resumption has it."""
    specs = []
    numbers = number(combinations, first, resumption)
    for params, (num, earlier) in zip(combinations, numbers, strict=True):
        words = program.command_for(params, paths.job_dir(num))
        specs.append(JobSpec(num, params, label_of(params), params, command=words, earlier=earlier))
    return specs


def number(
    points: Sequence[Mapping[str, Any]], first: int, resumption: Resumption | None
) -> list[tuple[int, Match | None]]:
    """The number of the job of each point, and what that was in the sweep that is resumed.

    Args:
        first: number of the first, unless the resumption has their numbers.
    """
    if resumption is None:
        return [(num, None) for num in range(first, first + len(points))]
    return [(match.num, match) for match in resumption.match(points)]


def record(journal: Journal, specs: Sequence[JobSpec], handles: Sequence[JobHandle]) -> None:
    """Write into the journal which jobs are new, and which of an earlier life run again."""
    if any(spec.earlier is not None for spec in specs):
        journal.resume(
            handle.job
            for spec, handle in zip(specs, handles, strict=True)
            if spec.earlier is not None and spec.earlier.job is not None and not handle.is_over
        )
    journal.submit(
        handle.job
        for spec, handle in zip(specs, handles, strict=True)
        if spec.earlier is None or spec.earlier.job is None
    )


def plain_settings(conf: SweepConf) -> dict[str, Any]:
    """A source's settings as JSON can hold them."""
    settings = asdict(conf)
    return {
        name: value.value if isinstance(value, Enum) else value for name, value in settings.items()
    }


def label_of(params: Mapping[str, Any]) -> str:
    """One line for a job with these parameters: ``lr=0.1 model=svm``."""
    return " ".join(f"{key}={value}" for key, value in params.items())

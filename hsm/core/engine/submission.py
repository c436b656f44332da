"""Turns what a caller submits into jobs, and records them in the sweep's journal.

    parameter combinations --make_specs--> JobSpec --OpenSweep.handle--> JobHandle
               program --------^                          `--record--> journal

Before that, the source claims the sweep's directory and learns whether there is a sweep to resume.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from hsm.core.engine.backend import Work
from hsm.core.engine.ledger import JobDir, JobHandle
from hsm.core.errors import SettingsError
from hsm.core.gpu.need import GpuNeeds
from hsm.core.logger import get_logger
from hsm.core.needs import NO_NEEDS, Needs, OwnNeeds
from hsm.core.program.kept_script import KeptScript
from hsm.core.program.program import Program
from hsm.core.record.claim import check_rerun, claim_new, is_there_to_resume
from hsm.core.record.job import Job
from hsm.core.record.journal import Journal
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import register
from hsm.core.record.resume import Match, Resumption, open_sweep
from hsm.core.settings.resolve import SweepConf
from hsm.core.space.command import GPU, late_names

if TYPE_CHECKING:
    from hsm.core.gpu.visible import FoundGpus
    from hsm.core.program.refused_arguments import RefusalJudge

log = get_logger(__name__)


class JobSpec(NamedTuple):
    """A job to submit, for callers that number and label their jobs themselves.

    Attributes:
        num: the job's number in the sweep.
        params: its parameters, for the journal; must be representable in JSON. The job keeps them.
        label: one line that identifies the job.
        argument: the argument for its function; must be picklable.
        makes_own_dir: whether the job's process makes its directory and reports the path.
        directory: which directory that is.
        command: the words to exec; None if the job calls a function.
        script: the Python script that the command runs, if it runs one.
        refusals: tells whether the command refused its arguments; None if nothing can tell.
        earlier: the matching job in the sweep being resumed, if there is one.
        needs: what it needs by name, GPUs too, if not what the sweep's settings say.
    """

    num: int
    params: dict[str, Any]
    label: str
    argument: Any
    makes_own_dir: bool = False
    directory: JobDir = JobDir.USUAL
    command: tuple[str, ...] | None = None
    script: KeptScript | None = None
    refusals: RefusalJudge | None = None
    earlier: Match | None = None
    needs: OwnNeeds = NO_NEEDS

    @property
    def runs(self) -> bool:
        """Whether it runs, and is not over since an earlier launch."""
        return self.earlier is None or self.earlier.runs


@dataclass
class OpenSweep:
    """A source's state for one sweep.

    Attributes:
        journal: the sweep's journal.
        next_num: the number for its next job, unless that job's number is its place in the sweep.
        resumption: knows the earlier jobs, if the sweep was resumed.
        scripts: the Python scripts that its jobs run, by path.
        programs: what its jobs run, for scripts that were read when they were first submitted.
        needs, gpu_needs: what its jobs need, those that have needs of their own and the others.
    """

    journal: Journal
    next_num: int = 0
    resumption: Resumption | None = None
    scripts: dict[str, KeptScript] = field(default_factory=dict)
    programs: dict[tuple[Any, ...], Program] = field(default_factory=dict)
    needs: Needs = field(default_factory=lambda: Needs({}))
    gpu_needs: GpuNeeds = field(default_factory=GpuNeeds)

    @classmethod
    def at(
        cls,
        paths: SweepPaths,
        sweep_id: str,
        conf: SweepConf,
        program: Mapping[str, Any] | None,
        lock: LockFile | None,
        resumption: Resumption | None,
        facts: Mapping[str, Any],
    ) -> OpenSweep:
        """Start a sweep's journal, or continue it.

        Args:
            paths: the sweep's.
            sweep_id: its id.
            conf: its settings, for the journal.
            program: what the jobs run, for the journal.
            lock: the directory's lock, if the caller holds it.
            resumption: set if this resumes a sweep.
            facts: what the launch record has besides.

        Raises:
            SweepInUse: another launcher is using the directory.
        """
        file = None
        if resumption is not None:
            file = resumption.journal_file
            lacks = ", ".join(name for name in resumption.variables if name not in conf.env)
            if lacks:
                log.warning("the jobs of %s now lack %s, which they had before", sweep_id, lacks)
        journal = Journal(
            paths,
            sweep_id,
            plain_settings(conf),
            program=program,
            facts=facts,
            lock=lock,
            file=file,
            variables=conf.env,
        )
        register(sweep_id, paths.sweep_dir)
        return cls(
            journal,
            resumption=resumption,
            needs=Needs(conf.needs),
            gpu_needs=GpuNeeds(conf.gpus, conf.gpu_memory),
        )

    def as_begun(self, program: Program) -> Program:
        """`program`, with its script as it was when it was first submitted."""
        if program.script is None:
            return program
        return self.programs.setdefault((program.script, program.writer.asked), program)

    def handles(self, specs: Iterable[JobSpec], work: Work) -> list[JobHandle]:
        """The handles for the jobs that `specs` describe.

        Args:
            specs: the jobs.
            work: what a job does whose spec has no command.
        """
        cwd, of_command, handles = os.getcwd(), Work(), []
        for spec in specs:
            if spec.command is None:
                handles.append(self._handle(spec, work, cwd))
                continue
            if spec.command is not of_command.command:  # Jobs that run the same share it.
                of_command = self._work(spec)
            handles.append(self._handle(spec, of_command, cwd))
        return handles

    def _work(self, spec: JobSpec) -> Work:
        """What the job does that `spec` describes, which runs a command."""
        script = spec.script
        if script is not None:  # A later batch of jobs runs what the first one ran.
            script = self.scripts.setdefault(script.path, script)
        return Work(command=spec.command, script=script, refusals=spec.refusals)

    def _handle(self, spec: JobSpec, work: Work, cwd: str) -> JobHandle:
        self.next_num = max(self.next_num, spec.num + 1)
        job = spec.earlier.job if spec.earlier else None
        if job is None:
            job_id = f"{self.journal.sweep_id}_{spec.num}"
            job = Job(spec.num, job_id, spec.label, spec.params)
            job.needs = spec.needs or None
        elif spec.runs:
            job.requeue()
            job.needs = spec.needs or None
            job.job_dir = None  # The sweep's directory may have been moved since.
            job.params = spec.params  # The journal may have them in a file beside it only.
        if not spec.makes_own_dir and job.job_dir is None:
            job.job_dir = self.journal.paths
        priorities = self.resumption.priorities if self.resumption else {}
        return JobHandle(
            job,
            work,
            spec.argument,
            self.journal,
            cwd,
            is_over=not spec.runs,
            priority=priorities.get(job.num, 0),
            directory=spec.directory,
            needs=self.needs.of(spec.needs),
            gpu_need=self.gpu_needs.of(spec.needs),
        )


class Claimed(NamedTuple):
    """A sweep's directory that is this process's, before there is a journal to write.

    Attributes:
        lock: the lock on it.
        resumption: knows the earlier jobs; None for a new sweep.
    """

    lock: LockFile
    resumption: Resumption | None


def claim(paths: SweepPaths, program: Program, conf: SweepConf, *, resumes: bool) -> Claimed:
    """Claim a directory, to resume its sweep (if `resumes` and there is one) or to start a new one.

    Raises:
        SettingsError: the directory holds an earlier sweep, or cannot be written.
        SweepInUse: another launcher is using it.
        SweepChanged, JournalError: the sweep cannot be resumed.
    """
    if resumes and is_there_to_resume(paths):
        resumed = open_sweep(
            paths,
            conf.rerun,
            program.files(),
            program.record(),
            accept_changes=conf.accept_changes,
        )
        return Claimed(*resumed)
    check_rerun(paths, conf.rerun, resumes=False)
    return Claimed(claim_new(paths, shared=conf.share_with_group), None)


def give_back(lock: LockFile, resumption: Resumption | None) -> None:
    """Undo `claim`, because no sweep was started."""
    if resumption is not None and resumption.journal_file is not None:
        resumption.journal_file.close()
    lock.release()


def make_specs(
    combinations: Sequence[dict[str, Any]],
    needs: Sequence[OwnNeeds],
    program: Program,
    paths: SweepPaths,
    *,
    first: int = 0,
    resumption: Resumption | None = None,
    are_places: bool = False,
    nums: Sequence[int] | None = None,
) -> list[JobSpec]:
    """One spec per parameter combination, numbered from `first` or by the resumption.

    Args:
        combinations: the parameters of each job.
        needs: its own needs.
        program: what it runs.
        paths: the sweep's.
        first: the first number.
        resumption: set if a sweep is being resumed.
        are_places: whether the numbers from `first` on are the jobs' places in the sweep, so that
            a resumption, too, gives new jobs these.
        nums: the jobs' numbers, if these are what makes them the same in a resumed sweep.
    """
    if nums is not None:
        numbers = numbered(nums, resumption)
    else:
        numbers = number(combinations, first, resumption, are_places=are_places)
    refusals = _refusals(program, combinations)
    return [
        JobSpec(
            num,
            params,
            label_of(params),
            dict(params) if program.function is not None else None,
            command=program.command_for(params, paths.job_dir_text(num)),
            script=program.kept_script,
            refusals=refusals,
            earlier=earlier,
            needs=own_needs,
        )
        for params, own_needs, (num, earlier) in zip(combinations, needs, numbers, strict=True)
    ]


def check_gpu_words(specs: Iterable[JobSpec], found: FoundGpus | None) -> None:
    """Check that jobs whose commands name their GPUs are given some, or none at all.

    Args:
        specs: the jobs.
        found: the GPUs from which they are given theirs; None if they are not.

    Raises:
        SettingsError: nobody says which GPUs these are.
    """
    commands = (spec.command for spec in specs if spec.command is not None)
    if found is None and any(GPU in late_names(command) for command in commands):
        hint = "without it, each job sees all GPUs"
        message = f"command: {{{GPU}}} needs the setting gpus, such as gpus=1: {hint}"
        allowed = "one that needs no gpus"
        raise SettingsError(
            "a placeholder", f"{{{GPU}}}", "command", allowed, hint, message=message
        )


def _refusals(program: Program, combinations: Sequence[Mapping[str, Any]]) -> RefusalJudge | None:
    """What tells that a job refused arguments which all others get, too."""
    if not program.takes_arguments:
        return None
    from hsm.core.program.refused_arguments import RefusalJudge  # Functions need none of it.

    names = {tuple(key for key in point if point[key] is not None) for point in combinations}
    return RefusalJudge(program.writer) if len(names) == 1 else None


def number(
    points: Sequence[Mapping[str, Any]],
    first: int,
    resumption: Resumption | None,
    *,
    are_places: bool = False,
) -> list[tuple[int, Match | None]]:
    """For each point its job's number, and the matching job of the sweep being resumed.

    Args:
        points: the points.
        first: the first number, unless a resumption assigns them.
        resumption: set if a sweep is being resumed.
        are_places: see `make_specs`.
    """
    if resumption is None:
        return [(num, None) for num in range(first, first + len(points))]
    return [(match.num, match) for match in resumption.match(points, first if are_places else None)]


def numbered(nums: Sequence[int], resumption: Resumption | None) -> list[tuple[int, Match | None]]:
    """As `number`, for jobs whose numbers are known."""
    if resumption is None:
        return [(num, None) for num in nums]
    return [(num, resumption.match_number(num)) for num in nums]


def record(journal: Journal, specs: Sequence[JobSpec], handles: Sequence[JobHandle]) -> None:
    """Write to the journal which jobs are new, and which earlier ones run again."""
    if any(spec.earlier is not None for spec in specs):
        again = [
            handle.job
            for spec, handle in zip(specs, handles, strict=True)
            if spec.earlier is not None and spec.earlier.job is not None and not handle.is_over
        ]
        if again or not journal.has_resumed:
            journal.resume(again)
    journal.submit(
        handle.job
        for spec, handle in zip(specs, handles, strict=True)
        if spec.earlier is None or spec.earlier.job is None
    )


def earlier_ends(specs: Sequence[JobSpec], resumption: Resumption | None) -> list[Job]:
    """The earlier jobs of a resumed sweep that do not run again, when the first `specs` are there.

    Args:
        specs: they have taken their jobs from `resumption`.
        resumption: knows the others; None if the sweep is a new one.
    """
    if resumption is None:
        return []
    matches = (spec.earlier for spec in specs)
    taken = [match.job for match in matches if match is not None and not match.runs]
    return [*(job for job in taken if job is not None), *resumption.left_over()]


def plain_settings(conf: SweepConf) -> dict[str, Any]:
    """A source's settings in a form that JSON can represent, of variables only the names."""
    return {
        each.name: each.metadata["hsm"]["kind"].shareable(getattr(conf, each.name))
        for each in fields(conf)
    }


def label_of(params: Mapping[str, Any]) -> str:
    """One line that describes a job by its parameters: ``lr=0.1 model=svm``."""
    return " ".join(f"{key}={value}" for key, value in params.items())

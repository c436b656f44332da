"""Describes how a job's process is to be started, and sees to the job's directory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hsm.core.engine import kept_reports
from hsm.core.engine.backend import CannotStart, Launch
from hsm.core.engine.ledger import JobDir, JobHandle
from hsm.core.engine.obstacles import Obstacles
from hsm.core.program import reports
from hsm.core.program.params import variables
from hsm.core.record.job_folder import JobFolder, job_folder
from hsm.core.settings.resolve import SweepConf
from hsm.core.space.command import late_names

if TYPE_CHECKING:
    from hsm.core.gpu.visible import FoundGpus


def describe_launch(
    handle: JobHandle,
    conf: SweepConf,
    *,
    prunes: bool = False,
    found: FoundGpus | None = None,
    makes_folders: bool = False,
) -> Launch:
    """Describe how to start the job, and make its directory if nobody else does.

    The job may have a port afterwards: see `free_port`.

    Args:
        handle: the job.
        conf: the settings.
        prunes: whether the job is told, if it asks, to end early.
        found: the GPUs of which it may have been granted some; None if it sees what there is.
        makes_folders: whether the backend makes the directories of jobs.

    Raises:
        CannotStart: something is in the way.
    """
    job, paths = handle.job, handle.journal.paths
    number = len(job.attempts) + 1
    env = _variables(handle, conf, number, prunes=prunes)
    command = handle.work.command
    if found is not None or (command is not None and late_names(command)):
        from hsm.core.engine.launching_with_gpus import tell_grant  # as few sweeps need it

        command = tell_grant(handle, conf.env, found, env)
    folder = _folder(handle)
    if folder is not None and not makes_folders:
        with Obstacles(f"make {folder.path}", paths.sweep_dir):
            folder.make()
    stdout, stderr, result = paths.attempt_files(job.num, number)
    if handle.work.function is not None:
        with Obstacles("remove an earlier report", paths.results):
            kept_reports.make_room(result)
    return Launch(
        num=job.num,
        env=env,
        root=str(paths.sweep_dir),
        stdout=stdout,
        stderr=stderr,
        cwd=handle.cwd,
        command=command,
        script=handle.work.script,
        argument=_pickled_argument(handle),
        result=result,
        grace=conf.kill_grace,
        header=_header(number) if job.attempts else None,
        log_limit=conf.log_limit,
        folder=folder if makes_folders else None,
        grant=handle.grant,
    )


def _variables(handle: JobHandle, conf: SweepConf, number: int, *, prunes: bool) -> dict[str, str]:
    """An attempt's variables besides those of the launcher and of GPUs. Raises CannotStart."""
    job, paths = handle.job, handle.journal.paths
    env = {
        **conf.env,
        "HSM_SWEEP_ID": handle.journal.sweep_id,
        "HSM_SWEEP_DIR": str(paths.sweep_dir),
        "HSM_JOB_ID": job.job_id,
        "HSM_JOB_NUM": str(job.num),
        "HSM_ATTEMPT": str(number),
        "HSM_METRICS": paths.metrics_text(job.num),
    }
    if handle.slot is not None:
        env["HSM_SLOT"] = str(handle.slot)
    if prunes:
        env["HSM_PRUNES"] = paths.answer_text(job.num)
    with Obstacles("write its parameters", paths.hsm_dir):
        env.update(variables(job.params, handle.journal.shelf))
    if (job_dir := job.job_dir_text) is not None:
        env["HSM_JOB_DIR"] = job_dir
    return env


def free_port(handle: JobHandle) -> None:
    """The job's attempt is over: its port, if it has one, may be another's."""
    port, handle.port = handle.port, None
    if port is not None:
        from hsm.core.gpu.ports import PORTS

        PORTS.give_back(port)


def link_job_logs(handle: JobHandle) -> None:
    """Put links to a job's logs into its directory, unless the backend has."""
    if handle.job.attempts and not handle.has_links:
        folder = _folder(handle, is_over=True)
        if folder is not None:
            folder.link_logs()


def _folder(handle: JobHandle, *, is_over: bool = False) -> JobFolder | None:
    """The job's directory, if it is known; a job may report another one before it is over."""
    job, paths, directory = handle.job, handle.journal.paths, handle.directory
    is_usual = directory is JobDir.USUAL
    path = paths.job_dir_text(job.num) if is_usual else job.job_dir_text
    if path is None:
        return None
    has_links = is_usual or (is_over and directory is JobDir.OWN)
    return job_folder(paths, path, job.num if has_links else None)


def _pickled_argument(handle: JobHandle) -> bytes | None:
    """The argument for the job's function, pickled; None for a command. Raises CannotStart."""
    if handle.work.function is None:
        return None
    argument = reports.dumps(handle.argument)
    if argument is None:
        raise CannotStart("its argument cannot be pickled")
    return argument


def _header(attempt: int) -> str:
    return f"---- attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')} ----"

"""Every path inside a sweep directory, in one class; no other code joins such paths.

    <sweep_dir>/.hsm/journal.jsonl       the sweep's record, see `hsm.core.record.journal`
    <sweep_dir>/.hsm/lock                locked by the one process that writes the journal
    <sweep_dir>/.hsm/launched.json       script and configs as they were at launch
    <sweep_dir>/.hsm/git.diff            uncommitted changes at launch; for resumes: git.1.diff, …
    <sweep_dir>/.hsm/launcher.log        what a detached launcher printed
    <sweep_dir>/.hsm/setting-aside       names the target while an earlier record is being moved
    <sweep_dir>/.hsm/requests/<n>|all    requests to cancel jobs
    <sweep_dir>/.hsm/requests/own/       other requests, of the sweep's owner alone
    <sweep_dir>/.hsm/logs/<n>.out|err    stdout and stderr of job n
    <sweep_dir>/.hsm/results/<n>.pkl     the report of job n; while its attempt's end is not yet in
                                         the journal: <n>.<attempt>.pkl
    <sweep_dir>/.hsm/metrics/<n>.jsonl   what job n reports while it runs, see
                                         `hsm.core.record.metrics`
    <sweep_dir>/.hsm/metrics/<n>.answer  whether job n is to end early, if it asks
    <sweep_dir>/.hsm/large/<hash>.json   a value that is too large for the journal
    <sweep_dir>/.hsm/optuna.journal      the study of an optimising sweep, as Optuna keeps it
    <sweep_dir>/.hsm.lock                stands for the lock on a file system without locks, see
                                         `hsm.core.record.exclusive_file`
    <sweep_dir>/<n>/                     job n's own directory (Hydra: hydra.sweep.subdir)

``.hsm.1`` and so on are the records of earlier sweeps, see `hsm.core.record.setting_aside`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hsm.core.files import PRIVATE, SHARED, check_place, make_folder_below


class SweepPaths:
    """The paths of the sweep in `sweep_dir`, made absolute. The constructor creates nothing."""

    def __init__(self, sweep_dir: str | Path) -> None:
        self.sweep_dir = Path(sweep_dir).absolute()
        self.hsm_dir = self.sweep_dir / ".hsm"
        self.journal = self.hsm_dir / "journal.jsonl"
        self.lock = self.hsm_dir / "lock"
        self.logs = self.hsm_dir / "logs"
        self.logs_from_job_dirs = f"../{self.hsm_dir.name}/{self.logs.name}"
        self.results = self.hsm_dir / "results"
        self.metrics = self.hsm_dir / "metrics"
        self.large = self.hsm_dir / "large"
        self.study = self.hsm_dir / "optuna.journal"
        self.launched = self.hsm_dir / "launched.json"
        self.git_diff = self.hsm_dir / "git.diff"
        self.launcher_log = self.hsm_dir / "launcher.log"
        self.requests = self.hsm_dir / "requests"
        self.own_requests = self.requests / "own"
        self.setting_aside = self.hsm_dir / "setting-aside"
        # Each job needs these several times, and a path is slow to turn into text.
        self._sweep_dir = str(self.sweep_dir)
        self._logs, self._results = str(self.logs), str(self.results)
        self._metrics = str(self.metrics)

    @property
    def folders_of_jobs(self) -> tuple[Path, ...]:
        """The folders that every sweep has for its jobs."""
        return self.logs, self.results, self.metrics

    def create(self, *, shared: bool = False) -> None:
        """Make the directories for the sweep's record.

        Args:
            shared: share new directories with their group; existing ones stay as they are.

        Raises:
            NotRegular: as `check` does.
            OSError: the directories cannot be made.
        """
        self.check()
        self.create_folders(SHARED if shared else PRIVATE)

    def create_folders(self, mode: int) -> None:
        """Make the directories, without checking the files in them.

        Args:
            mode: the mode of a new ``.hsm``; the folders in it get the same permissions.

        Raises:
            OSError: the directories cannot be made.
        """
        self.sweep_dir.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self.hsm_dir.mkdir(PRIVATE)
            if mode != PRIVATE:
                with suppress(OSError):  # The user is not in that group: use their own.
                    os.chown(self.hsm_dir, -1, self.sweep_dir.stat().st_gid)
                self.hsm_dir.chmod(mode)
        for directory in self.folders_of_jobs:
            make_folder_below(self.sweep_dir, directory)

    def check(self) -> None:
        """Check that what a launcher writes here stays here, and no name leads elsewhere.

        Raises:
            NotRegular: in place of a file or folder there is something else, e.g. a link or a pipe.
            OSError: the check failed.
        """
        for folder in (self.hsm_dir, *self.folders_of_jobs, self.large, self.requests):
            check_place(folder, is_folder=True)
        for file in (self.journal, self.lock, self.launched, self.launcher_log, self.study):
            check_place(file)

    def check_logs(self) -> None:
        """Check the jobs' logs and reports likewise, as jobs append to them. Raises as `check`."""
        for folder in (self.logs, self.metrics):
            for name in os.listdir(folder):
                check_place(folder / name)

    def check_job_dirs(self) -> None:
        """Check that no job of a new sweep would run in a link. Raises as `check` does."""
        with os.scandir(self.sweep_dir) as entries:
            for entry in entries:
                if entry.name.isdigit() and entry.is_symlink():
                    check_place(Path(entry.path), is_folder=True)

    @staticmethod
    def log_names(num: int) -> tuple[str, str]:
        """The names of a job's logs in `logs`: stdout's and stderr's."""
        return f"{num}.out", f"{num}.err"

    def stdout(self, num: int) -> Path:
        return self.logs / self.log_names(num)[0]

    def stderr(self, num: int) -> Path:
        return self.logs / self.log_names(num)[1]

    def result(self, num: int) -> Path:
        return self.results / f"{num}.pkl"

    def attempt_result(self, num: int, attempt: int) -> Path:
        return self.results / f"{num}.{attempt}.pkl"

    def attempt_files(self, num: int, attempt: int) -> tuple[str, str, str]:
        """The paths of `stdout`, `stderr` and `attempt_result`: each job needs them as texts."""
        out, err = self.log_names(num)
        result = f"{self._results}/{num}.{attempt}.pkl"
        return f"{self._logs}/{out}", f"{self._logs}/{err}", result

    def metrics_text(self, num: int) -> str:
        """The path of what job `num` reports, as text: each job needs it."""
        return f"{self._metrics}{os.sep}{num}.jsonl"

    def answer_text(self, num: int) -> str:
        """The path of the launcher's answer to that."""
        return f"{self._metrics}{os.sep}{num}.answer"

    def large_file(self, sha256: str) -> Path:
        return self.large / f"{sha256}.json"

    def job_dir(self, num: int) -> Path:
        return self.sweep_dir / str(num)

    def job_dir_text(self, num: int) -> str:
        """The same as text, which takes a tenth of the time."""
        return f"{self._sweep_dir}{os.sep}{num}"

    def new_git_diff(self) -> Path:
        """An unused path for uncommitted changes: each launcher of a sweep may save some."""
        number, path = 0, self.git_diff
        while os.path.lexists(path):
            number += 1
            path = self.hsm_dir / f"git.{number}.diff"
        return path

"""What the tests of real processes share: apps, swept as users do it, and watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any, TypeVar

import psutil
import pytest

import hsm
from hsm.core.record.job import Job, JobState
from hsm.core.record.sweep import Sweep, read_sweep

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
#: Where this process found hsm, installed or not: its children find the same one.
SOURCE = Path(hsm.__file__).resolve().parents[1]
START_METHODS = ("fork", "spawn")
#: The same, as parameters: fork, which costs half as much, stands for both in the default run.
FORK_OR_SLOW_SPAWN = ("fork", pytest.param("spawn", marks=pytest.mark.slow))
both_methods = pytest.mark.parametrize("start_method", FORK_OR_SLOW_SPAWN)


def first_fast(first: object, *others: object) -> list[Any]:
    """Values for `parametrize`: the first stands for all in the default run, the rest is slow."""
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in others)]


def first_row_fast(first: tuple[Any, ...], *others: tuple[Any, ...]) -> list[Any]:
    """The same for a test with several arguments."""
    return [first, *(pytest.param(*row, marks=pytest.mark.slow) for row in others)]


def under_both_methods(
    names: Iterable[str],
    fast: Collection[tuple[str, str]],
    mark: pytest.MarkDecorator = pytest.mark.slow,
) -> list[Any]:
    """Each name under each start method, for `parametrize`; all but the `fast` pairs get `mark`."""
    return [
        pytest.param(
            name,
            method,
            marks=[] if (name, method) in fast else [mark],
            id=f"{name}-{method}",
        )
        for name in names
        for method in START_METHODS
    ]


#: Seconds; far above what anything here takes, on a busy machine, too. It makes a hang a failure.
PATIENCE = 60.0
#: Every process of a sweep carries this in its environment: `exec` hands it on, and a fork
#: that never execs still shows, in /proc/<pid>/environ, what its ancestor was started with.
_MARK = "SWEEP_TEST_MARK"

_SCRIPT = """\
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import hydra


def note(name, text=""):
    temporary = Path(f"{{name}}.{{os.getpid()}}.tmp")
    temporary.write_text(str(text))
    temporary.rename(name)


def stay():
    while True:  # Of a signal just before a long sleep, Python would know only after it.
        time.sleep(0.05)


def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.02)


def child(name):
    "A child that stays; it notes its pid."
    if os.fork() == 0:
        note(name, os.getpid())
        stay()


def daemon(name):
    "A daemon, started as daemons are: a session of its own, and no parent. It notes its pid."
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            note(name, os.getpid())
            stay()
        os._exit(0)
    os.waitpid(pid, 0)


{body}

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    return job(cfg)


if __name__ == "__main__":
    main()
"""

_CONFIG = """\
job: 0
hydra:
  sweep:
    dir: sweep
"""


def wait_for(condition: Callable[[], T], what: str, deadline: float = PATIENCE) -> T:
    """Poll `condition` every 20 ms and return the first true thing it gives.

    Fails after `deadline` seconds and says that it waited for `what`.
    """
    end = time.monotonic() + deadline
    while not (result := condition()):
        assert time.monotonic() < end, f"waited {deadline:g} s in vain for {what}"
        time.sleep(0.02)
    return result


def let_burst_pass(seconds: float = 0.5) -> None:
    """Wait until a signal is a second one for a launcher that has dealt with a first one.

    Args:
        seconds: in which signals are one to it.
    """
    time.sleep(seconds + 0.1)


def child_environment(**more: str) -> dict[str, str]:
    """The environment, in which a child finds the hsm that is tested, and `more`."""
    path = [str(SOURCE), os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


def is_running(pid: int) -> bool:
    """Whether `pid` is a process that has not ended; a zombie has."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def describe(processes: Sequence[psutil.Process]) -> str:
    """The processes for a failure's message, one a line."""
    lines = []
    for process in processes:
        try:
            with process.oneshot():
                command = " ".join(process.cmdline()) or process.name()
                lines.append(
                    f"  {process.pid} (parent {process.ppid()}) {process.name()}: {command}"
                )
        except psutil.Error:
            lines.append(f"  {process.pid}: gone by now")
    return "\n".join(lines)


@dataclass(frozen=True)
class Finished:
    """A sweep's command that has ended.

    Attributes:
        code: its exit code, as `subprocess` gives it: negative if a signal ended it.
        out: what it printed.
        err: what it printed to stderr.
        elapsed: seconds that it took.
        sweep_dir: where its journal lies.
    """

    code: int
    out: str
    err: str
    elapsed: float
    sweep_dir: Path

    @property
    def screen(self) -> str:
        """What a person sees: both streams."""
        return self.out + self.err

    @cached_property
    def sweep(self) -> Sweep:
        """The sweep as its journal tells it; every line of the journal must be usable."""
        assert (self.sweep_dir / ".hsm").exists(), f"exit code {self.code}\n{self.screen}"
        sweep = read_sweep(self.sweep_dir)
        assert sweep.problems == []
        return sweep

    @property
    def jobs(self) -> Mapping[int, Job]:
        return self.sweep.jobs

    @property
    def states(self) -> list[str]:
        return [str(job.state) for _, job in sorted(self.jobs.items())]

    @property
    def values(self) -> list[Any]:
        return [job.value for _, job in sorted(self.jobs.items())]

    def log(self, num: int, stream: str = "stderr") -> str:
        """What job `num` wrote to `stream`."""
        paths = self.sweep.paths
        path = paths.stderr(num) if stream == "stderr" else paths.stdout(num)
        return path.read_text(encoding="utf-8", errors="replace")


class RunningSweep:
    """A sweep's command while it runs, and everything that it has started.

    Attributes:
        folder: the working directory.
        process: the command's.
        sweep_dir: where its journal lies.
        temporary: its TMPDIR, of which it is the only user.
    """

    def __init__(
        self, folder: Path, process: subprocess.Popen[bytes], mark: str, temporary: Path
    ) -> None:
        self.folder = folder
        self.process = process
        self.sweep_dir = folder / "sweep"
        self.temporary = temporary
        self._mark = mark
        self._started = time.monotonic()

    def processes(self) -> list[psutil.Process]:
        """The command's process and all that came of it, wherever their parent is; no zombies."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark:
                    found.append(process)
        return found

    def wait_for_files(self, *names: str) -> None:
        """Wait until the app's jobs have noted all of `names`."""

        def all_there() -> bool:
            has_ended = self.process.poll() is not None  # First: what is missing then stays so.
            if all((self.folder / name).exists() for name in names):
                return True
            assert not has_ended, f"ended early:\n{self._output('out')}{self._output('err')}"
            return False

        wait_for(all_there, f"files {names}")

    def pid(self, name: str) -> int:
        """The pid that a process of the app has noted under `name`."""
        return int((self.folder / name).read_text())

    def touch(self, name: str) -> None:
        """Let the app's processes that wait for `name` go on."""
        (self.folder / name).touch()

    def fork_server(self) -> psutil.Process:
        """The launcher's one direct child."""
        (server,) = psutil.Process(self.process.pid).children()
        return server

    def read(self) -> Sweep:
        """The sweep as its journal tells it now."""
        return read_sweep(self.sweep_dir)

    def wait_until_running(self, *nums: int) -> None:
        """Wait until the journal tells that these jobs run: a job may be further than its record.

        Until then, they are pending to the launcher, too.
        """

        def are_running() -> bool:
            jobs = self.read().jobs
            return all(jobs[num].state is JobState.RUNNING for num in nums)

        wait_for(are_running, f"the record of the starts of jobs {nums}")

    def wait_until_ended(self, num: int) -> Job:
        """Wait until the journal tells of the end of job `num`."""
        wait_for(lambda: self._has_ended(num), f"the end of job {num}")
        return self.read().jobs[num]

    def _has_ended(self, num: int) -> bool:
        return self.read().jobs[num].state.is_final

    def assert_all_gone(self, seconds: float = PATIENCE) -> None:
        """Fail unless the command and all that it started are gone within `seconds`."""
        deadline = time.monotonic() + seconds
        # Reaps the command itself, so that what the loop sees is what has truly not ended.
        while (self.process.poll() is None) | bool(left := self.processes()):
            if time.monotonic() >= deadline:
                raise AssertionError(f"still there after {seconds:g} s:\n{describe(left)}")
            time.sleep(0.02)

    def finish(self, seconds: float = PATIENCE) -> Finished:
        """Wait for the command's end; after `seconds`, show where its threads stand and fail."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler prints every thread's stack.
            self.process.wait(PATIENCE)
            raise AssertionError(
                f"still running after {seconds:g} s\n{self._output('out')}{self._output('err')}"
            ) from None
        elapsed = time.monotonic() - self._started
        return Finished(code, self._output("out"), self._output("err"), elapsed, self.sweep_dir)

    def kill(self) -> None:
        """End whatever is left; only a failing test has anything."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        self.process.wait(PATIENCE)

    def _output(self, stream: str) -> str:
        return (self.folder / f"screen.{stream}").read_text(encoding="utf-8", errors="replace")


class App:
    """A Hydra app on disk.

    Args:
        folder: where to write it; also the working directory of its sweeps.
        body: source that defines ``job(cfg)``, what the app does and returns; `cfg.job` is a job's
            number. It may use the functions of `_SCRIPT`.
    """

    def __init__(self, folder: Path, body: str) -> None:
        self.folder = folder
        (folder / "conf").mkdir()
        (folder / "conf" / "config.yaml").write_text(_CONFIG)
        (folder / "train.py").write_text(_SCRIPT.format(body=dedent(body)))

    @contextmanager
    def start(
        self,
        *overrides: str,
        launcher: str = "hsm_local",
        own_group: bool = False,
        ignoring: str = "",
        **settings: object,
    ) -> Iterator[RunningSweep]:
        """Start a sweep of six jobs, two at a time; what is left of it after the `with` is killed.

        Args:
            overrides: more of them, such as another ``job=``.
            launcher: the Hydra launcher.
            own_group: whether the command leads a process group and session of its own.
            ignoring: signals, such as ``"HUP INT"``, that the command finds ignored when it starts.
            settings: of the launcher: ``hydra.launcher.<name>=<value>``.
        """
        if launcher == "hsm_local":
            settings = {"max_parallel_jobs": 2, **settings}
        if not any(override.startswith("job=") for override in overrides):
            overrides = ("job=range(6)", *overrides)
        command = [
            *(("sh", "-c", f'trap "" {ignoring}; exec "$@"', "sh") if ignoring else ()),
            sys.executable,
            "train.py",
            "-m",
            f"hydra/launcher={launcher}",
            *(f"hydra.launcher.{name}={value}" for name, value in settings.items()),
            *overrides,
        ]
        mark = uuid.uuid4().hex
        # Files, not pipes: a process that outlives the command must not keep the test waiting.
        with (
            TemporaryDirectory(prefix="t") as temporary,
            (self.folder / "screen.out").open("wb") as out,
            (self.folder / "screen.err").open("wb") as err,
        ):
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=child_environment(PYTHONFAULTHANDLER="1", TMPDIR=temporary, **{_MARK: mark}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=own_group,
            )
            running = RunningSweep(self.folder, process, mark, Path(temporary))
            try:
                yield running
            finally:
                running.kill()

    def run(self, *overrides: str, seconds: float = PATIENCE, **options: Any) -> Finished:
        """Run such a sweep to its end, which must come within `seconds`."""
        with self.start(*overrides, **options) as running:
            return running.finish(seconds)

    def events(self) -> list[dict[str, Any]]:
        """The journal's lines; none if there is no journal."""
        journal = self.folder / "sweep" / ".hsm" / "journal.jsonl"
        if not journal.exists():
            return []
        return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


@contextmanager
def start_program(
    folder: Path, words: Sequence[str | Path], **options: Any
) -> Iterator[RunningSweep]:
    """Run a program that sweeps into ``folder/sweep``; what is left after the `with` is killed.

    Args:
        options: for `subprocess.Popen`; `env` is added to the environment.
    """
    mark = uuid.uuid4().hex
    with (
        TemporaryDirectory(prefix="t") as temporary,
        (folder / "screen.out").open("wb") as out,
        (folder / "screen.err").open("wb") as err,
    ):
        given = {"PYTHONFAULTHANDLER": "1", **options.pop("env", {})}
        env = child_environment(**{**given, _MARK: mark, "TMPDIR": temporary})
        process = subprocess.Popen(
            [*map(str, words)],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            **{"start_new_session": True, **options},
        )
        running = RunningSweep(folder, process, mark, Path(temporary))
        try:
            yield running
        finally:
            running.kill()

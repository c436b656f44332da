"""Six jobs, two at a time, and job 1 misbehaves: five complete, and the sixth's ending is named.

Then a sweep with all of these faults at once. It costs as much as two or three of the rows, so it
stands for most of them in the default run, and with other versions of Python and Hydra.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from helpers.processes import (
    PATIENCE,
    START_METHODS,
    App,
    Finished,
    both_methods,
    under_both_methods,
)


@dataclass(frozen=True)
class Fault:
    """What job 1 does, and how that is to be told.

    Attributes:
        does: the body of a function.
        state: of the job.
        exit_code: of its process.
        signal: that ended its process.
        error: the type of its exception.
        message: part of the exception's message.
        value: what it returns.
        screen: what the command's output must show.
        log: what the job's stderr must hold.
        before: source for the module's level.
        settings: of the launcher.
    """

    does: str
    state: str = "FAILED"
    exit_code: int | None = None
    signal: str | None = None
    error: str | None = None
    message: str = ""
    value: object = None
    screen: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    before: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """Source that defines a function `name` that does it; to itself it is ``misbehave``."""
        function = "def misbehave():\n" + indent(dedent(self.does).strip(), "    ")
        wrapped = indent(f"{function}\nreturn misbehave()", "    ")
        return f"{dedent(self.before)}\n\ndef {name}():\n{wrapped}\n"

    @property
    def body(self) -> str:
        job = "def job(cfg):\n    return fault() if cfg.job == 1 else 10 * cfg.job"
        return f"{self.source('fault')}\n\n{job}\n"


FAULTS = {
    "raises": Fault(
        "raise ValueError('boom in one')",
        exit_code=1,
        error="ValueError",
        message="boom in one",
        screen=("ValueError: boom in one", "job=1"),
        log=("raise ValueError('boom in one')",),
    ),
    "exits with 3": Fault("sys.exit(3)", exit_code=3, screen=("exit code 3",)),
    "exits with 0": Fault("sys.exit(0)", state="COMPLETED", exit_code=0),
    "exits with None": Fault("sys.exit()", state="COMPLETED", exit_code=0),
    "exits with a text": Fault(
        "sys.exit('no data here')", exit_code=1, screen=("no data here",), log=("no data here",)
    ),
    "ends at once with 7": Fault("os._exit(7)", exit_code=7, screen=("exit code 7",)),
    # It has not said that it succeeded: its function never returned.
    "ends at once with 0": Fault("os._exit(0)", exit_code=0),
    "segmentation fault": Fault(
        "import ctypes; ctypes.string_at(0)", signal="SIGSEGV", screen=("SIGSEGV",)
    ),
    "kills itself": Fault(
        "os.kill(os.getpid(), signal.SIGKILL)", signal="SIGKILL", screen=("SIGKILL",)
    ),
    "terminates itself": Fault(
        "os.kill(os.getpid(), signal.SIGTERM); stay()", signal="SIGTERM", screen=("SIGTERM",)
    ),
    "aborts": Fault("os.abort()", signal="SIGABRT", screen=("SIGABRT",)),
    "returns what cannot be pickled": Fault(
        "return (n for n in range(3))", state="COMPLETED", exit_code=0, screen=("generator",)
    ),
    "returns what cannot be unpickled": Fault(
        "return Bomb()",
        before="""
            def explode(pid):
                if os.getpid() != pid:
                    raise RuntimeError("it went off")


            class Bomb:
                def __reduce__(self):
                    return explode, (os.getpid(),)
        """,
        state="COMPLETED",
        exit_code=0,
        screen=("it went off",),
    ),
    "raises what cannot be pickled": Fault(
        "raise Stubborn('held')",
        before="""
            class Stubborn(Exception):
                def __init__(self, text):
                    super().__init__(text)
                    self.lock = threading.Lock()
        """,
        exit_code=1,
        error="Stubborn",
        message="held",
        screen=("Stubborn: held",),
        log=("raise Stubborn('held')", "Stubborn: held"),
    ),
    "raises what cannot be unpickled": Fault(
        "raise Picky(404, 'not found')",
        before="""
            class Picky(Exception):
                def __init__(self, code, reason):
                    super().__init__(f"{reason} ({code})")
        """,
        exit_code=1,
        error="Picky",
        message="not found (404)",
        screen=("Picky: not found (404)",),
        log=("raise Picky(404, 'not found')",),
    ),
    "raises what cannot be shown": Fault(
        "raise Mute()",
        before="""
            class Mute(Exception):
                def __str__(self):
                    raise RuntimeError("says nothing")
        """,
        exit_code=1,
        error="Mute",
        screen=("Mute",),
        log=("raise Mute()",),
    ),
    "raises KeyboardInterrupt": Fault(
        "raise KeyboardInterrupt",
        exit_code=1,
        error="KeyboardInterrupt",
        screen=("KeyboardInterrupt",),
    ),
    "raises a bare BaseException": Fault(
        "raise Odd('base')",
        before="class Odd(BaseException): pass",
        exit_code=1,
        error="Odd",
        message="base",
        screen=("Odd: base",),
    ),
    "asks for too much memory": Fault(
        "bytearray(1 << 62)", exit_code=1, error="MemoryError", screen=("MemoryError",)
    ),
    "recurses without end": Fault(
        "misbehave()", exit_code=1, error="RecursionError", screen=("RecursionError",)
    ),
    "hangs": Fault(
        "stay()",
        state="TIMEOUT",
        signal="SIGTERM",
        screen=("timeout after 4 s",),
        # The five others must make it, too: with spawn, on a busy machine.
        settings={"timeout": 4, "kill_grace": 1},
    ),
    "prints 10 MB": Fault(
        "sys.stdout.write('0123456789' * 1024 * 1024); return 1",
        state="COMPLETED",
        exit_code=0,
        value=1,
    ),
    "closes its streams": Fault(
        "os.closerange(0, 3); return 1", state="COMPLETED", exit_code=0, value=1
    ),
}


#: The fault of the default run: it is in none of the sweeps with several faults.
ALONE = "hangs"

ROWS = [
    *under_both_methods([ALONE], {(ALONE, "fork")}),
    # In one sweep, test_all_jobs_but_five_misbehave shows the same of all of them.
    *under_both_methods([name for name in FAULTS if name != ALONE], (), pytest.mark.long),
]


@pytest.mark.parametrize(("name", "start_method"), ROWS)
def test_one_job_misbehaves(tmp_path: Path, name: str, start_method: str) -> None:
    fault = FAULTS[name]
    done = App(tmp_path, fault.body).run(start_method=start_method, **fault.settings)
    assert done.states == ["COMPLETED", fault.state, *["COMPLETED"] * 4], done.screen
    assert done.values == [0, fault.value, 20, 30, 40, 50]
    assert done.code == (0 if fault.state == "COMPLETED" else 1), done.screen
    assert_told(done, 1, fault)
    assert done.sweep.closed == "finished"
    assert_no_internals(done)
    if name == "prints 10 MB":
        assert done.log(1, "stdout") == "0123456789" * 1024 * 1024


def assert_told(done: Finished, num: int, fault: Fault) -> None:
    """The journal, the screen and the log tell what job `num` did."""
    attempt = done.jobs[num].attempt
    assert attempt is not None
    assert (attempt.exit_code, attempt.signal) == (fault.exit_code, fault.signal), num
    assert attempt.error_type == fault.error
    assert fault.message in (attempt.error_message or "")
    for text in fault.screen:
        assert text in done.screen
    for text in fault.log:
        assert text in done.log(num)


@pytest.mark.slow
@both_methods
def test_all_jobs_but_five_misbehave(tmp_path: Path, start_method: str) -> None:
    """Every fault but "hangs", which needs a time limit that others would have to keep as well."""
    faults = [fault for name, fault in FAULTS.items() if name != "hangs"]
    good = [0, 1, 10, 20, 4 + len(faults)]
    numbers = [num for num in range(5 + len(faults)) if num not in good]
    sources = [fault.source(f"misbehave_{num}") for num, fault in zip(numbers, faults, strict=True)]
    table = ", ".join(f"{num}: misbehave_{num}" for num in numbers)
    job = f"def job(cfg):\n    return {{{table}}}.get(cfg.job, lambda: 10 * cfg.job)()\n"
    done = App(tmp_path, "\n\n".join([*sources, job])).run(
        f"job=range({5 + len(faults)})", start_method=start_method, seconds=2 * PATIENCE
    )
    assert done.code == 1
    for num in good:
        assert (str(done.jobs[num].state), done.jobs[num].value) == ("COMPLETED", 10 * num)
    for num, fault in zip(numbers, faults, strict=True):
        assert (str(done.jobs[num].state), done.jobs[num].value) == (fault.state, fault.value)
        assert_told(done, num, fault)
    assert done.sweep.closed == "finished"
    assert_no_internals(done)


def assert_no_internals(done: Finished) -> None:
    """Tracebacks may show the job's own frames, never those of hsm; faulthandler shows them all."""
    assert not re.search(r'/(hsm/core|hsm_local_launcher)/[^"]*", line \d+, in ', done.screen)


LOCKED = """
    LOCK = threading.Lock()


    def job(cfg):
        with LOCK:
            return 10 * cfg.job
"""


@pytest.mark.slow
def test_a_lock_at_module_level_works_under_fork(tmp_path: Path) -> None:
    done = App(tmp_path, LOCKED).run("job=range(3)", start_method="fork")
    assert done.code == 0
    assert done.values == [0, 10, 20]


def test_a_lock_at_module_level_is_refused_under_spawn_before_any_start(
    tmp_path: Path,
) -> None:
    app = App(tmp_path, LOCKED)
    # Nothing is started that could be waited for, nor can there be a job's directory.
    with app.start(start_method="spawn") as running:
        code = running.process.wait(PATIENCE)
        screen = "".join((tmp_path / f"screen.{s}").read_text() for s in ("out", "err"))
    assert code == 1
    assert [e for e in app.events() if e["event"] == "start"] == []
    (line,) = [line for line in screen.splitlines() if "LOCK" in line]
    assert "spawn" in line
    assert "fork" in line
    assert "Traceback" not in screen


@pytest.mark.slow
def test_a_lock_that_jobs_do_not_use_is_no_matter_under_spawn(tmp_path: Path) -> None:
    body = "LOCK = threading.Lock()\n\n\ndef job(cfg):\n    return 10 * cfg.job\n"
    done = App(tmp_path, body).run("job=0,1", start_method="spawn")
    assert (done.code, done.values) == (0, [0, 10])


@pytest.mark.slow
@pytest.mark.parametrize("start_method", START_METHODS)
def test_every_job_misbehaves(tmp_path: Path, start_method: str) -> None:
    body = """
        def job(cfg):
            if cfg.job % 2:
                os._exit(cfg.job)
            raise ValueError(f"number {cfg.job}")
    """
    done = App(tmp_path, body).run(start_method=start_method)
    assert done.code == 1
    assert done.states == ["FAILED"] * 6
    for num, job in done.jobs.items():
        assert job.ending() == (f"exit code {num}" if num % 2 else f"ValueError: number {num}")
        assert job.ending() in done.screen

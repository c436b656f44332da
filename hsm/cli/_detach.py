"""`hsm sweep --detach`: a launcher that outlives the terminal and the process that started it.

    hsm sweep --fork--> (session leader) --fork--> launcher: stdout, stderr -> launcher.log
        ^                                                  |
        `-- its pid; "started", or why not, in a pipe -----'

After the second fork the launcher does not lead its session, so it can never acquire a terminal
again. Both forks happen before any thread exists.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from hsm.cli._plan import Plan
from hsm.cli._printing import print_json
from hsm.cli._stdout import best_effort, say
from hsm.core.errors import HsmError
from hsm.core.files import open_below
from hsm.core.local.machine import check_machine
from hsm.core.local.places import with_places
from hsm.core.local.processes.process_tree import is_stopped, is_zombie, send_signal
from hsm.core.printable import printable_lines
from hsm.core.settings.origins import naming_origins
from hsm.core.settings.resolve import LocalConf
from hsm.display.text import from_here

#: What the launcher sends: a line with its pid, then this, or why it could not start.
_STARTED = b"+"
#: Seconds between looks at a launcher that says nothing, and after which people hear of it.
_LOOK, _TELL = 1.0, 10.0


class NotStarted(HsmError):
    """The detached launcher could not start; the message is its own and may have several lines."""

    def __str__(self) -> str:
        return printable_lines(*self.args)


def run_detached(plan: Plan, conf: LocalConf, as_json: bool) -> None:
    """Start a sweep in the background; return once its journal exists.

    Raises:
        HsmError: the sweep could not be started.
    """
    # Report what is wrong here, on the terminal, rather than in launcher.log.
    # What concerns GPUs the launcher finds out: this process forks, and asks no driver.
    with naming_origins(plan.origins):
        check_machine(with_places(conf))
    plan.check()
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _close_inherited()
        _become_launcher(plan, conf, theirs)
    os.close(theirs)
    os.waitpid(pid, 0)
    with open(ours, "rb", buffering=0) as pipe:
        answer = wait_for_answer(pipe, plan.paths.launcher_log)
    if answer != _STARTED:
        raise NotStarted(
            answer.decode()
            or f"the launcher died before the sweep began; see {plan.paths.launcher_log}"
        )
    with best_effort():  # The sweep has started, even if stdout cannot be written.
        _report_started(plan, as_json)


def wait_for_answer(pipe: io.FileIO, log: Path) -> bytes:
    """Wait for a launcher's answer as long as it lives; return what it has said, without its pid.

    The end of the pipe may never come: another process may hold the launcher's end. On Ctrl-C, the
    launcher gets one, too.
    """
    said, launcher = b"", None
    began, has_told = time.monotonic(), False
    try:
        while not said.endswith(b"\n" + _STARTED):
            is_over = launcher is not None and not _is_alive(launcher)
            if select.select([pipe], [], [], 0 if is_over else _LOOK)[0]:
                if not (more := pipe.read(1 << 16)):
                    break
                said += more
            elif is_over:
                break
            if launcher is None and b"\n" in said:
                with suppress(psutil.Error):
                    launcher = psutil.Process(int(said.partition(b"\n")[0]))
            if not has_told and time.monotonic() > began + _TELL and launcher is not None:
                has_told = True
                _tell(launcher, log)
    except KeyboardInterrupt:
        if launcher is not None:
            send_signal([launcher], signal.SIGINT)
        raise
    return said.partition(b"\n")[2]


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and not is_zombie(process)


def _tell(launcher: psutil.Process, log: Path) -> None:
    how = "is stopped" if is_stopped(launcher) else "has not begun the sweep yet"
    with suppress(OSError):
        say(f"hsm: the launcher, process {launcher.pid}, {how}; its log is {log}", error=True)


def _report_started(plan: Plan, as_json: bool) -> None:
    if as_json:
        print_json({"sweep_id": plan.sweep_id, "sweep_dir": plan.paths.sweep_dir})
        return
    say(f"{plan.sweep_id} has started, in {from_here(plan.paths.sweep_dir)}")
    say(f"  hsm monitor {plan.sweep_id}    watches it")
    say(f"  hsm cancel {plan.sweep_id}     ends it")


def _close_inherited() -> None:
    """Close inherited descriptors, such as a shell's pipe whose reader would wait for this process.

    Python never makes its own descriptors inheritable, so every inheritable one came from outside.
    """
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        with suppress(OSError):  # listdir's own descriptor is closed by now
            if fd > 2 and os.get_inheritable(fd):
                os.close(fd)


def _become_launcher(plan: Plan, conf: LocalConf, answer: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        os.write(answer, b"%d\n" % os.getpid())
        code = _launch(plan, conf, answer)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _launch(plan: Plan, conf: LocalConf, answer: int) -> int:
    from hsm.cli._launch import run

    has_started = False

    def started() -> None:
        nonlocal has_started
        has_started = True
        with suppress(BrokenPipeError):  # Whoever waited for it has gone, with a terminal, say.
            os.write(answer, _STARTED)
        os.close(answer)

    try:
        _redirect(plan, conf)
        return run(plan, conf, started=started)
    except HsmError as error:
        if has_started:
            raise
        os.write(answer, str(error).encode(errors="replace"))
        return 2


def _redirect(plan: Plan, conf: LocalConf) -> None:
    """Connect stdin to /dev/null, stdout and stderr to the launcher's log. Raises HsmError."""
    log = plan.paths.launcher_log
    try:
        plan.paths.create(shared=conf.share_with_group)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        log_fd = open_below(plan.paths.sweep_dir, log, flags)
    except OSError as error:
        raise HsmError(f"cannot write {error.filename or log}: {error.strerror}") from error
    null_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for fd, target in ((null_fd, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(fd, target)
    for fd in (null_fd, log_fd):
        os.close(fd)

"""`hsm sweep --detach`: a launcher that outlives the terminal and the process that started it.

    hsm sweep --fork--> (session leader) --fork--> launcher: stdout, stderr -> launcher.log
        ^                                               |
        `---- "started", or why not, through a pipe ----'

After the second fork the launcher does not lead its session, so it can never acquire a terminal
again. Both forks happen before any thread exists.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from hsm.cli._plan import Plan
from hsm.cli._printing import print_json
from hsm.cli._stdout import best_effort, say
from hsm.core.errors import HsmError
from hsm.core.files import open_below
from hsm.core.local.machine import check_machine
from hsm.core.printable import printable_lines
from hsm.core.settings.resolve import LocalConf
from hsm.display.text import from_here

_STARTED = b"+"


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
    check_machine(conf)
    for _ in plan.jobs():
        pass
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
    with open(ours, "rb") as pipe:
        answer = pipe.read()
    if answer != _STARTED:
        raise NotStarted(
            answer.decode()
            or f"the launcher died before the sweep began; see {plan.paths.launcher_log}"
        )
    with best_effort():  # The sweep has started, even if stdout cannot be written.
        _report_started(plan, as_json)


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
        code = _launch(plan, conf, answer)
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

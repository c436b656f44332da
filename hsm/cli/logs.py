"""`hsm logs`: print what a job wrote, and follow what it still writes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from hsm.cli._find import sweep_and_job, warn_of_problems, which_job
from hsm.cli._option_sets import HsmConfigFile, JobNumber, OptionalSweep, new_app
from hsm.cli._printing import end_with_the_reader
from hsm.cli._stdout import say, write_bytes
from hsm.core.command_line import join_command
from hsm.core.errors import HsmError
from hsm.core.files import open_log, seek_last_lines
from hsm.core.record.cut_logs import continue_in
from hsm.core.record.named_job import named_job
from hsm.core.record.replay import Replay
from hsm.core.record.sweep import Sweep as Record
from hsm.display.counts import FAILURES
from hsm.display.text import clean

app = new_app()

#: Seconds between two looks at the file, and at the journal, which costs more.
_INTERVAL, _JOURNAL_INTERVAL = 0.1, 0.5
_CHUNK = 1 << 20
#: Bytes of an unfinished line that --plain holds back.
_MAX_LINE = 1 << 16

_Write = Callable[[bytes], None]

Stderr = Annotated[bool, typer.Option("--stderr", "-e", help="Print stderr instead of stdout.")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Follow the output until the job has ended.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Remove escape sequences, colours included.")]
Lines = Annotated[
    int | None,
    typer.Option("--lines", "-n", metavar="N", min=0, help="Print only the last N lines."),
]


@app.command("logs")
def logs(
    sweep: OptionalSweep = "",
    job: JobNumber = None,
    stderr: Stderr = False,
    follow: Follow = False,
    lines: Lines = None,
    plain: Plain = False,
    hsm_config: HsmConfigFile = "",
) -> None:
    """Print what a job wrote to its stdout, all attempts one after another.

    A line on stderr says if the cause of a failure may be in the other one.

    The output is printed byte for byte: a terminal shows its colours and obeys any other escape
    sequences in it. --plain prints the text that a terminal would have ended up with.
    """
    end_with_the_reader()
    paths, num = sweep_and_job(sweep, job, hsm_config)
    if num is None:
        raise which_job("hsm logs", sweep)
    path = paths.stderr(num) if stderr else paths.stdout(num)
    with Replay(paths) as replay:
        replay.catch_up()
        warn_of_problems(replay.sweep)
        state = named_job(replay.sweep, num).state
        write = _Plain() if plain else write_bytes
        if follow:
            _follow(replay, num, path, write, lines)
        elif (file := _open(path)) is not None:
            with file:
                _copy(file, write, lines)
        else:
            raise HsmError(
                f"job {num} of {replay.sweep.sweep_id} is {state}: it has written nothing"
            )
        if isinstance(write, _Plain):
            write.end()
        named = [word for word in (sweep, "" if job is None else str(job)) if word]
        _say_where_more_is(replay.sweep, num, stderr, ["hsm", "logs", *named])


def _say_where_more_is(sweep: Record, num: int, stderr: bool, command: list[str]) -> None:
    """Say on stderr if what was printed does not tell why the job failed, or is nothing at all.

    Args:
        command: prints the job's stdout.
    """
    job, sizes = sweep.jobs[num], {}
    for name, path in (("stdout", sweep.paths.stdout(num)), ("stderr", sweep.paths.stderr(num))):
        with suppress(OSError):
            sizes[name] = path.stat().st_size
    printed, other = ("stderr", "stdout") if stderr else ("stdout", "stderr")
    if not sizes.get(printed) and not sizes.get(other):
        if job.state.is_final:
            say(f"hsm: job {num} of {sweep.sweep_id} printed nothing", error=True)
    elif not sizes.get(printed) or (other == "stderr" and job.state in FAILURES and sizes[other]):
        what = f"{job.state}: {job.ending()}" if sizes.get(printed) else f"no {printed}"
        words = [*command, "--stderr"] if other == "stderr" else command
        say(f"hsm: job {num}: {what}; for its {other}: {join_command(words)}", error=True)


def _follow(replay: Replay, num: int, path: Path, write: _Write, lines: int | None) -> None:
    """Copy the file at `path`, which may not exist yet, until job `num` has ended."""
    with ExitStack() as stack:
        file: BinaryIO | None = None
        look_again = 0.0
        is_over = False
        while not is_over:
            # Read the state before the file: once a job has ended, its output is complete.
            if time.monotonic() >= look_again:
                replay.advance()
                look_again = time.monotonic() + _JOURNAL_INTERVAL
                is_over = replay.sweep.jobs[num].state.is_final
            if file is None and (opened := _open(path)) is not None:
                file = stack.enter_context(opened)
                _copy(file, write, lines)
            if file is not None:
                _copy(file, write)
                if os.fstat(file.fileno()).st_nlink == 0 and (new := _open(path)) is not None:
                    _copy(file, write)  # what came before it was replaced
                    file = _continue(stack.enter_context(new), file, write)
            time.sleep(0 if is_over else _INTERVAL)


def _continue(new: BinaryIO, old: BinaryIO, write: _Write) -> BinaryIO:
    """Go on in the file that has replaced a log, which was read to its end."""
    place, missing = continue_in(new.fileno(), old.fileno(), old.tell())
    if missing:
        write(missing)
    new.seek(place)
    old.close()
    _copy(new, write)
    return new


class _Plain:
    """Prints complete lines as a terminal would have left them."""

    def __init__(self) -> None:
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._print(line)
        if len(self._rest) > _MAX_LINE:
            self.end()
        sys.stdout.flush()

    def end(self) -> None:
        """Print the last line even though it is unfinished."""
        if self._rest:
            self._print(self._rest)
        self._rest = b""

    def _print(self, line: bytes) -> None:
        say(clean(line.decode(errors="replace")))


def _open(path: Path) -> BinaryIO | None:
    """Open the log at `path`; None if there is none yet. Raises HsmError if it cannot be read."""
    try:
        return open(open_log(path), "rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HsmError(f"cannot read {path}: {error.strerror}") from error


def _copy(file: BinaryIO, write: _Write, last_lines: int | None = None) -> None:
    """Print the rest of `file`, or only its last lines."""
    if last_lines is not None:
        seek_last_lines(file, last_lines)
    while chunk := file.read(_CHUNK):
        write(chunk)

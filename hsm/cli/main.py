"""`hsm`: runs the command named on the command line, and turns errors into a line and an exit code.

    0         success; for a sweep: all of its jobs completed
    1         some job did not complete
    2         bad usage, settings or files: nothing was started
    128 + n   ended by signal n: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP

Importing typer takes half of the time that `hsm --help` may take, and a usual `hsm sweep` or `hsm
monitor` needs none of it. So this module imports nothing that is slow; the commands import the core
and rich themselves.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import hsm
from hsm.cli import _stdout

if TYPE_CHECKING:
    from io import TextIOWrapper
    from types import TracebackType

_FAILED, _REFUSED = 1, 2


def main() -> NoReturn:
    """The program's entry point."""
    # What imports and jobs make stays: by default it would be searched for garbage all the time.
    gc.set_threshold(100_000)
    _stdout.install()
    _replace_unencodable(sys.stderr)
    sys.excepthook = _show_bug
    code = run(sys.argv[1:])
    gc.freeze()  # nor at exit, which would take as long as many jobs: all of it goes anyway
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code. Raises only on a bug."""
    if not hasattr(hsm, "__version__"):
        # An old package on the index has the same folder. Its removal took hsm/__init__.py along.
        return _refuse(
            "another package named hsm was removed, and a part of this one with it: "
            "in a clone of hpc-sweep-manager, pip install --force-reinstall --no-deps ."
        )
    from hsm.core.errors import HsmError

    code = _REFUSED
    try:
        code = _run(arguments)
    except HsmError as error:
        return _refuse(str(error))
    except OSError:
        if _stdout.failure() is None:
            raise
    unwritten = _stdout.failure()
    if unwritten is None:
        return code
    _stdout.give_up(unwritten)
    return _REFUSED


def _run(arguments: Sequence[str]) -> int:
    action = _usual_action(arguments)
    if action is None:
        from hsm.cli._commands import run_command

        return run_command(arguments)
    try:
        return action()
    except KeyboardInterrupt:
        return 128 + 2
    except BrokenPipeError:
        _stdout.give_up_all()
        sys.exit(_FAILED)


def _usual_action(arguments: Sequence[str]) -> Callable[[], int] | None:
    """What a command line asks for, if it can be read without typer."""
    name, *words = arguments or [""]
    if name == "sweep":
        from hsm.cli._sweep_line import read_sweep_line

        if (sweep_line := read_sweep_line(words)) is not None:
            from hsm.cli import _sweep_action

            return partial(_sweep_action.run_line, sweep_line)
    if name == "monitor":
        from hsm.cli._monitor_line import read_monitor_line

        if (monitor_line := read_monitor_line(words)) is not None:
            from hsm.cli import _monitor_action

            return partial(_monitor_action.run_line, monitor_line)
    return None


def _refuse(text: str) -> int:
    with suppress(OSError):  # stderr may be on a full disk as well
        for line in f"hsm: {text}".split("\n"):
            _stdout.say(line, error=True)
    return _REFUSED


def _show_bug(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    """Print a traceback through `say`, since it may quote control characters."""
    import traceback

    for line in "".join(traceback.format_exception(kind, error, place)).splitlines():
        _stdout.say(line, error=True)


def _replace_unencodable(stream: TextIOWrapper | Any) -> None:
    """Replace characters that the encoding lacks, so that a job's label cannot abort a report."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()

"""Every reading command over directories that somebody may have laid out to do harm.

    python benchmarks/hostile.py --inputs 20000 --seed 1 --json benchmarks/results/hostile.json

Each input is a sweep's directory, changed in one to five places (see _hostile_inputs.py), and each
command has to end soon, with one of the documented exit codes, without a traceback, with a line for
each fault, having changed no byte outside of the directory (nor inside, if it only reads), and
without an escape sequence for a terminal. Whatever does not is told with the seed that makes it
again: --inputs 1 --seed N.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _hostile_inputs import JOURNAL, Spoiler, Template

REPOSITORY = Path(__file__).resolve().parents[1]
#: Seconds that a command gets.
_DEADLINE = 30
#: Bytes of address space: what wants more than that is found out, and not the machine.
_MEMORY = 4 << 30
#: Lines that a command may write to stderr.
_MOST_LINES = 110
#: What reads: it may change nothing at all. D is the directory.
READING = [
    words.split()
    for words in (
        *("list", "list --json", "monitor D --once", "monitor D --json"),
        *("monitor D --progress plain", "monitor D --progress rich"),
        *("show D", "show D --json"),
        *("show D 0", "show D 1", "show D 2 --json", "show D 1 --json"),
        *("logs D 0", "logs D 0 --plain", "logs D 1 --stderr --lines 2", "logs D 2 --follow"),
        *("collect-results D", "collect-results D --format csv --sort-by duration"),
        "collect-results D --format json --only failed",
        "collect-results D --format md --sort-by -value",
        "collect-results D --columns job,state,reason,x",
        *("sweep --resume D --dry-run", "sweep --resume D --count-only"),
    )
]
#: What may write, inside of the directory.
WRITING = [["cancel", "D"], ["cancel", "D", "1"], ["pause", "D"], ["cancel", "D", "--pending"]]
PYTHON = "Python"


class TooLong(BaseException):
    """A command did not end in time."""


@dataclass
class Found:
    """What was found.

    Attributes:
        inputs: how many directories there were.
        commands: how many commands were run.
        exit_codes: how often each code came.
        violations: what should not have been, with the seed that makes it again.
    """

    inputs: int = 0
    commands: int = 0
    exit_codes: Counter[int] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Terminal(io.TextIOWrapper):
    """Keeps what is written to it, and says that it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), "utf-8", errors="replace", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def text(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(errors="replace")


def make_template(folder: Path) -> Template:
    """A real sweep with jobs that completed, failed, were tried again and went on in a resume."""
    script = folder / "script.py"
    script.write_text(
        "import json, os, sys\n"
        "x = json.loads(os.environ['HSM_PARAMS'])['x']\n"
        "print('\\x1b[31mred\\x1b[0m', x); print('error', file=sys.stderr)\n"
        "for name in ('results', 'metrics'):\n"
        "    with open(os.path.join(os.environ['HSM_JOB_DIR'], name + '.json'), 'w') as file:\n"
        "        json.dump({'score': x, 'nested': {'list': [1, 2.5, None]}}, file)\n"
        "sys.exit(3 if x % 2 else 0)\n"
    )
    environment = {**os.environ, "HSM_STATE_DIR": str(folder / "state")}
    hsm = [sys.executable, "-m", "hsm.cli.main", "sweep", "--progress", "none"]
    large = f"text={'a' * 20_000}"  # lies beside the journal
    first = ["--script", str(script), "x=0,1,2", large, "--sweep-dir", "swept"]
    for words in ([*first, "--max-retries", "1", "--retry-delay", "0"], ["--resume", "./swept"]):
        subprocess.run([*hsm, *words], cwd=folder, env=environment, check=False)
    return read_template(folder / "swept")


def read_template(directory: Path) -> Template:
    """The files of a sweep's directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def old_template(template: Template) -> Template:
    """The same files beside a journal of version 1."""
    journal = REPOSITORY / "tests" / "data" / "journal_v1.jsonl"
    return {**template, JOURNAL: journal.read_bytes()}


class Hunt:
    """Lays out directories below `folder`, and runs commands on each."""

    def __init__(self, folder: Path, templates: Sequence[Template]) -> None:
        self._folder = folder
        self._templates = templates
        self._outside = folder / "outside"
        (self._outside / "folder").mkdir(parents=True)
        (self._outside / "file").write_text("theirs\n")
        (self._outside / "folder" / "file").write_text("theirs\n")
        self._state = folder / "state"
        self.found = Found()

    def try_input(self, seed: int, commands: int | None = None) -> None:
        """Run commands on the directory of one seed: so many of them, or all."""
        directory = self._folder / "sweep"
        spoiler = Spoiler(seed, self._outside)
        spoiler.lay_out(self._templates[seed % len(self._templates)], directory)
        self._register(directory, spoiler)
        chosen = [*READING, *WRITING, [PYTHON]]
        if commands is not None:
            chosen = spoiler.random.sample(chosen, commands)
        self.found.inputs += 1
        before = _look(self._folder, but=directory)
        try:
            for command in chosen:
                inside = None if command in WRITING else _look(directory)
                problems = self._run(command, directory, is_terminal=spoiler.random.random() < 0.7)
                if inside is not None and _look(directory) != inside:
                    problems.append("it changed the directory")
                if _look(self._folder, but=directory) != before:
                    problems.append("it changed what lies outside of the directory")
                where = f"seed {seed} ({'; '.join(spoiler.done)}): {' '.join(command)}: "
                self.found.violations += [where + problem for problem in problems]
        finally:
            _make_removable(directory)
            shutil.rmtree(directory)

    def _register(self, directory: Path, spoiler: Spoiler) -> None:
        """Have the list of sweeps name this one and, now and then, something strange."""
        self._state.mkdir(exist_ok=True)
        entries = [{"sweep_id": "hostile", "dir": str(directory), "time": 1.7e9, "cwd": "/"}]
        lines = [json.dumps(entry) for entry in entries]
        if spoiler.random.random() < 0.2:
            strange = {"sweep_id": "x", "dir": str(directory / "0"), "time": spoiler.value()}
            lines.append(json.dumps(strange))
        (self._state / "sweeps.jsonl").write_text("\n".join(lines) + "\n")

    def _run(self, command: Sequence[str], directory: Path, *, is_terminal: bool) -> list[str]:
        """Run one command; returns what was wrong with it."""
        self.found.commands += 1
        out, err = Terminal(is_terminal=is_terminal), Terminal(is_terminal=is_terminal)
        began = time.monotonic()
        code = 0
        try:
            with _as_its_own_process(self._folder, self._state, out, err):
                if command[0] == PYTHON:
                    read_in_python(directory)
                else:
                    words = [str(directory) if word == "D" else word for word in command]
                    code = run_command(words)
        except TooLong:
            return [f"it was not done after {_DEADLINE} s"]
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)[-2:]
            where = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
            return [f"traceback: {type(error).__name__}: {str(error)[:200]} ({where})"]
        finally:
            self.found.slowest = max(self.found.slowest, time.monotonic() - began)
        self.found.exit_codes[code] += 1
        return list(_faults(command, code, out, err))


def run_command(words: Sequence[str]) -> int:
    """Run a command line of hsm's in this process."""
    import typer.main

    from hsm.cli.main import run

    if not hasattr(typer.main.get_command, "cache_clear"):  # half of the time
        typer.main.get_command = functools.cache(typer.main.get_command)
    return run(words)


def read_in_python(directory: Path) -> None:
    """The same through Python: it may raise hsm's own errors, and no other."""
    from hsm import collect_results
    from hsm.core.errors import HsmError
    from hsm.core.record.sweep import read_sweep

    with contextlib.suppress(HsmError):
        for job in read_sweep(directory).jobs.values():
            job.ending()
    with contextlib.suppress(HsmError):
        results = collect_results(directory)
        for column in results.columns:
            results.sorted_by(column)
        for write in (results.to_csv, results.to_json, results.to_markdown):
            write().encode()


def _faults(command: Sequence[str], code: int, stdout: Terminal, stderr: Terminal) -> Iterator[str]:
    out, err = stdout.text(), stderr.text()
    if code not in (0, 1, 2):
        yield f"exit code {code}"
    if code == 2 and not err.startswith("hsm: "):
        yield f"refused without a word: {err[:200]!r}"
    lines = err.splitlines()
    if any(not line.startswith("hsm: ") for line in lines):
        yield f"a line on stderr that is not hsm's: {err[:300]!r}"
    if len(lines) > _MOST_LINES:
        yield f"{len(lines)} lines on stderr"
    texts = {"stderr": err}
    is_raw = command[0] == "logs" and "--plain" not in command  # what a job wrote, as it is
    if stdout.isatty() and not is_raw and "rich" not in command:  # which moves the cursor
        texts["stdout"] = out
    for name, text in texts.items():
        if not text.replace("\n", "").isprintable():
            at = next(at for at, c in enumerate(text) if c != "\n" and not c.isprintable())
            yield f"{name} steers a terminal: {text[max(0, at - 40) : at + 40]!r}"


@contextlib.contextmanager
def _as_its_own_process(folder: Path, state: Path, out: Terminal, err: Terminal) -> Iterator[None]:
    """What a command changes of its process is undone; it is interrupted when its time is over."""
    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGPIPE)}
    here = os.getcwd()

    def end(*_: Any) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, end)
    os.chdir(folder)
    # A terminal without styles: what steers it then is none of rich's.
    os.environ.update(HSM_STATE_DIR=str(state), TERM="dumb")
    signal.alarm(_DEADLINE)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        signal.alarm(0)
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _look(folder: Path, but: Path | None = None) -> dict[str, tuple[int, ...]]:
    """What lies in a folder: each entry's kind, size, time of change and identity."""
    seen: dict[str, tuple[int, ...]] = {}
    left = [os.fspath(folder)]
    while left:
        try:
            entries = list(os.scandir(left.pop()))
        except OSError:
            continue
        for entry in entries:
            if but is not None and entry.path == os.fspath(but):
                continue
            status = entry.stat(follow_symlinks=False)
            is_folder = entry.is_dir(follow_symlinks=False)
            size = 0 if is_folder else status.st_size
            seen[entry.path] = (status.st_mode, size, status.st_mtime_ns, status.st_ino)
            if is_folder:
                left.append(entry.path)
    return seen


def _make_removable(directory: Path) -> None:
    for path, _, _ in os.walk(directory):
        os.chmod(path, 0o700)


def main() -> int:
    """Run it as the command line says; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--inputs", type=int, default=1000, help="directories (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="the first input's (default 1)")
    parser.add_argument("--commands", type=int, help="so many commands on each (default: all)")
    parser.add_argument("--json", help="a file for the figures")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        template = make_template(folder)
        hunt = Hunt(folder / "hunt", [template, old_template(template)])
        for seed in range(arguments.seed, arguments.seed + arguments.inputs):
            known = len(hunt.found.violations)
            hunt.try_input(seed, arguments.commands)
            for violation in hunt.found.violations[known:]:
                print(violation, file=sys.stderr)
    found = hunt.found
    figures = {
        "inputs": found.inputs,
        "commands": found.commands,
        "exit_codes": {str(code): count for code, count in sorted(found.exit_codes.items())},
        "first_seed": arguments.seed,
        "slowest_seconds": round(found.slowest, 2),
        "seconds": round(time.monotonic() - began, 1),
        "violations": found.violations,
    }
    text = json.dumps(figures, indent=2)
    if arguments.json:
        Path(arguments.json).write_text(text + "\n")
    print(text)
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())

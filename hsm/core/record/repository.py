"""What git knows of the source code that a sweep runs: asked briefly, and without any helper.

    Repository.holding(script) --git status, ls-files--> state()     commit, whether it is changed
                               --git diff-index------->  changes()   the changes, at most 1 MiB

A user's git may be set up to run programs (text converters, filters, external diffs, file system
monitors, hooks, pagers) or to ask for passwords. None of that happens here: programs may be slow,
print something, or stay. Nor is the index locked, which a commit made meanwhile would run into.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hsm.core.units import format_size

#: Seconds for all git commands of a `state`, and for those of `changes`.
_GIT_TIMEOUT = 5.0
#: How many bytes of a difference are kept, and of any other output.
MAX_DIFF, _MAX_OUTPUT = 1 << 20, 16 << 20
_CUT = b"\n(cut here: the difference is longer)\n"
_CHUNK = 1 << 16
#: Seconds that the kernel may take to end a killed git; it takes longer on a dead network mount.
_REAP_TIMEOUT = 1.0
#: Switches for each command; an empty value turns a program off.
_QUIET = (
    *("git", "--no-pager", "--no-optional-locks", "--literal-pathspecs"),
    *("-c", "core.fsmonitor=", "-c", "core.hooksPath=/dev/null", "-c", "status.renames=false"),
)
#: Begins the line of `git status` that has the commit.
_OID = "# branch.oid"
#: How many changed paths are looked up.
_MAX_PATHS = 1000
_NO_HELPERS = ("--no-ext-diff", "--no-textconv")
#: What is uncommitted in a submodule is its own affair, and its config may name further programs.
_SUBMODULES = "--ignore-submodules=dirty"
#: Of git's own variables, only these are passed on: others name a repository, as in a git hook.
_KEPT_VARIABLES = ("GIT_CONFIG_", "GIT_EXEC_PATH", "GIT_ATTR_")
_NO_QUESTIONS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # a partial clone would fetch what it lacks
    "LC_ALL": "C",
}


class GitFailed(Exception):
    """A git command did not do what it should; says why, as a clause."""


class _NoGit(GitFailed):
    """There is no git on this machine."""


class Changes(NamedTuple):
    """What is not committed.

    Attributes:
        diff: the difference, in git's format; empty if there is none.
        missing: what it lacks, as a clause; "" if it is complete.
    """

    diff: bytes
    missing: str = ""


class Repository:
    """The git repository in `root`.

    Args:
        root: its top directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def holding(cls, *places: Path) -> Repository | None:
        """The repository of the first of these directories that is in one."""
        for place in places:
            for directory in (place, *place.parents):
                if os.path.exists(directory / ".git"):  # Also False without permission to look.
                    return cls(directory)
        return None

    def state(self, script: Path | None) -> dict[str, Any] | None:
        """The commit (None before the first), and whether tracked files differ from it.

        Also whether git tracks the script, if that is in the repository; and as `incomplete`, if
        something of this is not known, why. None without git.
        """
        git = _Git(self._root)
        state: dict[str, Any] = {}
        try:
            drivers = git.turn_filters_off()
            words = ("--porcelain=v2", "--branch", "--no-ahead-behind", "--untracked-files=no")
            output = git.run("status", "-z", *words, _SUBMODULES).output
            entries = _texts(output)
            commit = next((line.split()[-1] for line in entries if line.startswith(_OID)), None)
            changed = [entry for entry in entries if not entry.startswith("# ")]
            state["commit"] = None if commit == "(initial)" else commit
            state["dirty"] = bool(changed)
            if script is not None and self._root in script.parents:
                listed = git.run("ls-files", "--error-unmatch", "--", str(script), answers=(0, 1))
                state["script_is_tracked"] = listed.code == 0
            if drivers and changed and (filtered := git.filtered(changed, drivers)):
                state["incomplete"] = _unfiltered(filtered)
        except _NoGit:
            return None
        except GitFailed as error:
            state["incomplete"] = str(error)
        return state

    def changes(self, commit: str | None) -> Changes:
        """The difference between the tracked files and a commit (None: there is no commit yet).

        A difference of more than `MAX_DIFF` bytes is cut there, with a note at its end.
        """
        git = _Git(self._root)
        try:
            git.turn_filters_off()
            if commit is None:
                empty = git.run("hash-object", "-t", "tree", os.devnull).output
                commit = empty.decode().strip()
            words = ("-p", *_NO_HELPERS, _SUBMODULES, "--submodule=short", commit, "--")
            diff = git.run("diff-index", *words, most=MAX_DIFF + 1).output
        except GitFailed as error:
            return Changes(b"", str(error))
        if len(diff) <= MAX_DIFF:
            return Changes(diff)
        missing = f"the difference exceeds {format_size(MAX_DIFF)}"
        return Changes(diff[:MAX_DIFF] + _CUT, missing)


def _texts(output: bytes) -> list[str]:
    """What git has written with -z or --null."""
    return [text for text in output.decode(errors="surrogateescape").split("\0") if text]


def _unfiltered(drivers: set[str]) -> str:
    names = ", ".join(sorted(drivers))
    return f"files with a git filter ({names}) may be unchanged: hsm does not run it"


class _Answer(NamedTuple):
    code: int
    output: bytes


class _Git:
    """Runs git commands in a directory, for `_GIT_TIMEOUT` seconds in all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._deadline = time.monotonic() + _GIT_TIMEOUT
        self._filters_off: list[str] = []
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("GIT_") or name.startswith(_KEPT_VARIABLES)
        } | _NO_QUESTIONS

    def turn_filters_off(self) -> set[str]:
        """Make the commands that follow run no filter, such as git-lfs; return those there are.

        There is no switch for all of them.
        """
        words = ("--null", "--name-only", "--get-regexp", r"^filter\.")
        names = _texts(self.run("config", *words, answers=(0, 1)).output)
        drivers = {name.removeprefix("filter.").rpartition(".")[0] for name in names} - {""}
        for driver in sorted(drivers):
            if "=" in driver:  # then the switch would mean something else
                raise GitFailed(f"the git filter {driver!r} cannot be turned off")
            for setting in ("clean=", "smudge=", "process=", "required=false"):
                self._filters_off += ["-c", f"filter.{driver}.{setting}"]
        return drivers

    def filtered(self, changed: list[str], drivers: set[str]) -> set[str]:
        """Those of `drivers` that the changed files, as `git status` lists them, would go through.

        Args:
            changed: its entries.
            drivers: names of filters.
        """
        # The path is the last of the fields, whose number goes by the kind of entry.
        fields = {"1": 8, "2": 9, "u": 10}
        paths = [entry.split(" ", fields.get(entry[0], 8))[-1] for entry in changed[:_MAX_PATHS]]
        answer = self.run("check-attr", "-z", "filter", "--", *paths)
        return drivers.intersection(_texts(answer.output)[2::3])

    def run(
        self,
        command: str,
        *arguments: str,
        answers: tuple[int, ...] = (0,),
        most: int = _MAX_OUTPUT,
    ) -> _Answer:
        """Run a git command; nothing of it is left when this returns.

        Args:
            command: such as "status".
            arguments: what follows.
            answers: exit codes that are no failure.
            most: stop reading its output after this many bytes, and end it.

        Raises:
            GitFailed: it failed, or did not end in time.
        """
        words = (*_QUIET, *self._filters_off, command, *arguments)
        try:
            process = subprocess.Popen(
                words,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a group, to end it with all that it has started
            )
        except FileNotFoundError as error:
            raise _NoGit("there is no git") from error
        except OSError as error:
            raise GitFailed(f"git cannot be run: {error.strerror}") from error
        try:
            output, errors = self._read(process, most)
            if len(output) >= most:
                return _Answer(0, output)
            code = process.wait(max(0.0, self._deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            late = f"git {command} did not end within {_GIT_TIMEOUT:g} s"
            raise GitFailed(late) from None
        finally:
            _end(process)
        if code not in answers:
            first = errors.decode(errors="replace").strip().partition("\n")[0]
            why = first.removeprefix("fatal: ") or f"exit code {code}"
            raise GitFailed(f"git {command}: {why}")
        return _Answer(code, output)

    def _read(self, process: subprocess.Popen[bytes], most: int) -> tuple[bytes, bytes]:
        """Read stdout, `most` bytes of it, and stderr. Raises TimeoutError."""
        assert process.stdout is not None
        assert process.stderr is not None
        output, errors = bytearray(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, output)
            selector.register(process.stderr, selectors.EVENT_READ, errors)
            while selector.get_map() and len(output) < most:
                ready = selector.select(max(0.0, self._deadline - time.monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    chunk = os.read(key.fd, _CHUNK)
                    key.data.extend(chunk)
                    if not chunk:
                        selector.unregister(key.fileobj)
        return bytes(output[:most]), bytes(errors[:_CHUNK])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a git command, with all that it has started; does not wait for long."""
    if process.returncode is None:  # else its number may be another's by now
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel: its exit is not waited for
        process.wait(_REAP_TIMEOUT)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()

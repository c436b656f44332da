"""What the jobs of a sweep run, and each job's command line.

    function=    called with a job's parameters (a dict), in its own process
    command=     ["./fit", "--lr={lr}", "--out={job_dir}"]: parameters replace the placeholders
    script=      train.py: gets its parameters as arguments, `train.py --lr 0.1 --model svm`
    none of them `script:` or `command:` of hsm.yaml

A script gets arguments as it reads them (see `argument_writer`), and so does a command that has the
word ``{args}``. hsm finds that out from the script's syntax tree, without running it.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm.core.command_line import command_words
from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.interpreter import NO_INTERPRETER, interpreter
from hsm.core.program.argument_writer import PLAIN, ArgumentWriter, first_script, writer_for
from hsm.core.program.first_line import first_line
from hsm.core.program.kept_script import KeptScript
from hsm.core.record.provenance import recorded_words
from hsm.core.settings.args_style import ArgsStyle, check_args_style
from hsm.core.settings.resolve import HsmConfig, load_hsm_config
from hsm.core.space.command import (
    ARGS,
    check_command,
    expand_command,
    late_names,
    placeholders,
)
from hsm.core.space.grammar import plain_key

#: Maximum bytes of one argument, including its final NUL: MAX_ARG_STRLEN of Linux.
_MAX_WORD = 32 * os.sysconf("SC_PAGE_SIZE")
#: Bytes that the kernel counts for each argument or variable beside its text: a pointer.
_WORD_OVERHEAD = 8
#: Bytes reserved for a job's own variables.
_JOB_OVERHEAD = 80 << 10
#: Characters; a shorter command line is safely below the kernel's limits.
_SHORT_ENOUGH = 16 << 10


@dataclass(frozen=True)
class Program:
    """What every job of a sweep runs: a function, a command or a script.

    Attributes:
        function: called with a job's parameters.
        command: words with placeholders, see `hsm.core.space.command.expand_command`.
        script: the words that run a script, to which a job's arguments are appended.
        writer: writes these, and those that ``{args}`` in a command stands for.
        kept_script: the script as it was when this was made, if hsm's own Python runs it.
        note: what people should know about which Python runs it; "" if there is nothing to say.
    """

    function: Callable[[Any], Any] | None = None
    command: tuple[str, ...] | None = None
    script: tuple[str, ...] | None = None
    writer: ArgumentWriter = PLAIN
    kept_script: KeptScript | None = field(default=None, repr=False, compare=False)
    note: str = field(default="", compare=False)

    def command_for(
        self, params: Mapping[str, Any], job_dir: str | os.PathLike[str]
    ) -> tuple[str, ...] | None:
        """The command line of the job with these parameters; None for a function.

        Raises:
            SettingsError: a parameter cannot be written on a command line, a placeholder has no
                parameter, or the line is too long for the kernel.
        """
        if self.command is not None:
            words = expand_command(
                self.command, params, job_dir, lambda rest: self.writer.words(rest, job_dir)
            )
        elif self.script is not None:
            words = [*self.script, *self.writer.words(params, job_dir)]
        else:
            return None
        _check_size(words, params)
        line = tuple(words)
        is_same = line == self.command and not late_names(line)
        return self.command if is_same else line  # of many jobs, the same one

    def check(self, shared_keys: Sequence[str], all_keys: Sequence[str]) -> None:
        """Check that this can run with certain parameters.

        Args:
            shared_keys: those that all jobs have.
            all_keys: those that any job has.

        Raises:
            SettingsError: no job can run, or not all of them.
        """
        named: Sequence[str] = ()
        if self.command is not None:
            check_command(self.command, shared_keys)
            named = placeholders(self.command)
        if self.takes_arguments:
            self.writer.check([key for key in all_keys if plain_key(key) not in named])

    def arguments(self) -> dict[str, Any]:
        """This program as arguments for `LocalComputeSource.submit_jobs`."""
        script = self.script[-1] if self.script else None
        what = {"function": self.function, "command": self.command, "script": script}
        return {**what, "args_style": self.writer.asked if self.takes_arguments else None}

    def record(self) -> dict[str, Any]:
        """This program for the journal; `from_record` restores it, except for a function."""
        if self.function is not None:
            return {"function": _qualified_name(self.function)}
        record = {"command": self.command, "script": self.script, "uses_hydra": self.uses_hydra}
        return {**record, "args_style": self.writer.style} if self.takes_arguments else record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Program:
        """The program that `record` describes. Raises ValueError if the record is not valid."""
        command, script = (recorded_words(record, name) for name in ("command", "script"))
        # An older hsm recorded no style, and knew one.
        style = check_args_style(record.get("args_style", ArgsStyle.hydra), "journal")
        uses_hydra = bool(record.get("uses_hydra"))
        return cls(None, command, script, ArgumentWriter(style, style, uses_hydra=uses_hydra))

    @property
    def takes_arguments(self) -> bool:
        """Whether what jobs run gets arguments that hsm writes."""
        return self.script is not None or (self.command is not None and ARGS in self.command)

    @property
    def uses_hydra(self) -> bool:
        """Whether the script is a Hydra app, and gets its parameters as one."""
        return self.script is not None and self.writer.uses_hydra

    @property
    def notes(self) -> list[str]:
        """What people should know about how this runs."""
        return [note for note in (self.note, self.writer.note) if note]

    def files(self) -> dict[str, str]:
        """The text of the script, or of the function's module if it is a file, by file name.

        For a Hydra app also the texts of its configs.
        """
        path: str | None = None
        if self.script is not None:
            path = self.script[-1]
        elif self.function is not None:
            code = getattr(inspect.unwrap(self.function), "__code__", None)
            path = code.co_filename if code is not None else None
        if path is None:
            return {}
        configs = {}
        if self.uses_hydra:
            from hsm.core.program.hydra_script import config_texts

            configs = config_texts(path)
        try:
            source = self.kept_script.source if self.kept_script else Path(path).read_bytes()
            return {**configs, Path(path).name: io.StringIO(source.decode(), None).read()}
        except (OSError, UnicodeDecodeError):
            return configs  # E.g. a function typed into an interpreter or a notebook.

    @property
    def name(self) -> str:
        """A short name: ``train`` for train.py and for a function train()."""
        if self.script is not None:
            return Path(self.script[-1]).stem
        if self.command is not None:
            return Path(self.writer.script or self.command[0]).stem
        return str(getattr(self.function, "__name__", type(self.function).__name__)).strip("<>")


def _check_size(words: Sequence[str], params: Mapping[str, Any]) -> None:
    """Raise SettingsError if the command line is too long for the kernel."""
    if sum(map(len, words)) < _SHORT_ENOUGH:
        return
    sizes = [len(os.fsencode(word)) + 1 for word in words]
    if max(sizes) <= _MAX_WORD and sum(sizes) + _WORD_OVERHEAD * len(words) <= _room_for_words():
        return
    name = max(params, key=lambda name: len(str(params[name])), default="")
    what = f"arguments of {sum(sizes)} bytes"
    if max(sizes) > _MAX_WORD:
        what = f"an argument of {max(sizes)} bytes, and the kernel allows {_MAX_WORD}"
    hint = "give the name of a file, or read $HSM_PARAMS_FILE"
    message = f"parameter {name} is too long for a command line: it makes {what}; {hint}"
    allowed = "short enough for a command line"
    key, value = f"parameter {name}", params.get(name)
    raise SettingsError(key, value, "parameters", allowed, hint, message=message)


def _room_for_words() -> int:
    """Maximum bytes of a command line, given this process's environment and a job's variables."""
    taken = sum(len(key) + len(value) + 2 + _WORD_OVERHEAD for key, value in os.environb.items())
    return os.sysconf("SC_ARG_MAX") - taken - _JOB_OVERHEAD


def find_program(
    function: Callable[[Any], Any] | None = None,
    command: str | Sequence[str] | None = None,
    script: str | os.PathLike[str] | None = None,
    args_style: str | None = None,
    *,
    caller: str = "submit_jobs",
    hsm_config: HsmConfig | None = None,
) -> Program:
    """What jobs run: what the caller named or, if that is nothing, what hsm.yaml names.

    Args:
        function: a callable that takes a job's parameters.
        command: a command line, or a list of its words. No shell is involved.
        script: a Python script (``.py``), or any executable file.
        args_style: how its arguments, or those for ``{args}`` in the command, are written; None for
            what hsm.yaml says beside its script or command, else as the script reads them.
        caller: the function that got these arguments, for messages.
        hsm_config: the hsm.yaml to use; if None, searched for when needed.

    Raises:
        SettingsError: nothing or more than one thing is named, the script cannot be run, or
            calling the function would not run it (it is async or a generator).
    """
    given = {"function": function, "command": command, "script": script}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        message = f"{caller}: give only one of {', '.join(named)}"
        raise SettingsError(
            "what jobs run", ", ".join(named), caller, "one of them", message=message
        )
    if function is not None:
        if not callable(function):
            raise SettingsError("function", function, caller, "a callable")
        _check_runs(function, caller)
        if args_style is not None:
            raise _useless_style(args_style, caller)
        return Program(function=function)
    style = None if args_style is None else check_args_style(args_style, caller)
    if named:
        return (
            _script(script, caller, style) if command is None else _command(command, caller, style)
        )
    config = load_hsm_config() if hsm_config is None else hsm_config
    style = style or config.args_style
    if config.command is not None:
        return _command(config.command, f"command in {config.path}", style)
    if config.script is not None:
        return _script(config.script, f"script in {config.path}", style)
    allowed = "script=, command= or function="
    message = f"nothing to run: pass {allowed} to {caller}, or set `script:` in hsm.yaml"
    raise SettingsError("what jobs run", None, caller, allowed, message=message)


def _qualified_name(function: Callable[[Any], Any]) -> str:
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return name.replace("<locals>.", "")


def _check_runs(function: Callable[[Any], Any], caller: str) -> None:
    """Refuse a function that a call does not run: its jobs would complete and have done nothing."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    for each in (function, called):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            hint = "it is async; wrap it, as in lambda params: asyncio.run(train(params))"
        elif inspect.isgeneratorfunction(each):
            hint = "it has a yield, so it returns a generator"
        else:
            continue
        name = _qualified_name(function)
        message = f"{caller}: calling the function {name} would not run it: {hint}"
        allowed = "one that runs when it is called"
        raise SettingsError("function", function, caller, allowed, hint, message=message)


def _command(command: object, origin: str, style: ArgsStyle | None) -> Program:
    words = command_words(command, origin)
    program = os.path.expanduser(words[0])
    if "{" not in program and shutil.which(program) is None:
        allowed = "a program that is there and can be executed"
        message = f"{origin}: there is no program {shown(program)} that can be executed"
        key = "the first word of command"
        raise SettingsError(key, program, origin, allowed, message=message)
    writer = PLAIN
    if ARGS in words:
        writer = writer_for(first_script(words), style or ArgsStyle.auto)
    elif style is not None:
        raise _useless_style(style, origin)
    return Program(command=(program, *words[1:]), writer=writer)


def _useless_style(style: str, origin: str) -> SettingsError:
    allowed = f"left out without a script, or the word {ARGS} in a command"
    message = f"{origin}: args_style goes with a script, or with the word {ARGS} in a command"
    return SettingsError("args_style", style, origin, allowed, message=message)


def _script(script: object, origin: str, style: ArgsStyle | None) -> Program:
    path = os.fspath(script) if isinstance(script, os.PathLike) else script
    if not isinstance(path, str) or not path or "\0" in path:
        raise SettingsError("script", script, origin, "the path of a script")
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        hint = _near_file(path)
        message = f"{origin}: there is no file {shown(path)}{f'; {hint}' if hint else ''}"
        raise SettingsError("script", path, origin, "a file that exists", hint, message=message)
    if os.path.basename(path) == path:
        # exec would look up a bare name in PATH, and Python would read "-c.py" as an option.
        path = os.path.join(os.curdir, path)
    writer = writer_for(path, style or ArgsStyle.auto)
    is_python, python = path.endswith(".py"), interpreter()
    if is_python and python is not None:
        own_line, note = first_line(path, python)
        if not own_line:
            # -u: otherwise people would see the script's output only when it ends.
            return Program(None, None, (python, "-u", path), writer, _kept(path), note)
    if os.access(path, os.X_OK):
        return Program(script=(path,), writer=writer)
    chmod = f"chmod +x {shlex.quote(path)}"
    if is_python:
        hint = f"give it a first line such as #!/usr/bin/env python3, and {chmod}"
        message = f"{origin}: {NO_INTERPRETER} to run {shown(path)} with; {hint}"
    else:
        hint = f"{chmod} makes it executable"
        message = f"{origin}: {shown(path)} is neither a .py file nor executable; {hint}"
    allowed = "a .py file, or a file that can be executed"
    raise SettingsError("script", path, origin, allowed, hint, message=message)


def _kept(path: str) -> KeptScript | None:
    try:
        return KeptScript(path)
    except OSError:
        return None  # The jobs show why.


def _near_file(path: str) -> str:
    folder = os.path.dirname(path)
    try:
        beside = [os.path.join(folder, name) for name in os.listdir(folder or os.curdir)]
    except OSError:
        return f"there is no directory {folder}"
    return did_you_mean(path, beside, prefix=os.path.join(folder, "") if folder else "")

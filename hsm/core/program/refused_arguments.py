"""Tells from what a script said at its end that it refused the arguments that hsm wrote for it.

Only what holds for every job of a sweep counts, in the parser's own words: an argument that the
script does not have, or one that is missing. A value that it does not take is one job's failure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsm.core.command_line import join_command
from hsm.core.program.argument_writer import ArgumentWriter
from hsm.core.record.log_ends import end_of_log
from hsm.core.settings.args_style import ArgsStyle

#: Bytes, and lines, at the end of stderr in which a parser's last words are.
_MAX_TAIL, _MAX_LINES = 1 << 14, 12
_MAX_SENT = 300
#: The lines in which parsers refuse what all jobs of a sweep are given.
_ARGPARSE = re.compile(
    r"error: (unrecognized arguments: |the following arguments are required: |ambiguous option: "
    r"|no such option: |argument \S+: (expected .*argument|ignored explicit argument|not allowed ))"
)
#: For a positional argument, which may be the name of a command.
_ARGPARSE_CHOICE = re.compile(r"error: argument [^-\s]\S*: invalid ")
_CLICK = re.compile(
    r"(^Error: |^│ )(No such (option|command)|Missing (option|argument|parameter|command)"
    r"|Got unexpected extra argument|Option .* (requires|does not take))"
)
_FIRE = re.compile(
    r"^ERROR: (Could not consume arg: |The function received no value for the requir)"
)
_ABSL = re.compile(
    r"(Unknown command line flag|Missing value for flag|must have a value other than None)"
)
#: What stands above, or in, that line: an exception may have those words, too.
_ABSL_HEAD = "FATAL Flags parsing error"
#: The exit code that goes with them, and the style that the parser reads.
_WORDS = (
    (2, _ARGPARSE, ArgsStyle.flags),
    (2, _CLICK, ArgsStyle.flags),
    (2, _FIRE, ArgsStyle.flags_equals),
    (1, _ABSL, ArgsStyle.flags_equals),
)
_MISSING = re.compile(r"arguments are required|Missing |required argument|must have a value")
_COMMAND = re.compile(r"No such command|Missing command|\brequired: (command|cmd|subcommand)\b")


@dataclass(frozen=True)
class Refusal:
    """A script refused its arguments.

    Attributes:
        line: its own words.
        message: what it got, what it said, and what to try.
    """

    line: str
    message: str


@dataclass(frozen=True)
class RefusalJudge:
    """Judges the ends of a sweep's jobs.

    Attributes:
        writer: what wrote their arguments.
    """

    writer: ArgumentWriter

    def refusal(self, exit_code: int, stderr: Path, command: Sequence[str]) -> Refusal | None:
        """Whether a job whose `command` ended with `exit_code` refused its arguments, and how."""
        if exit_code not in (1, 2):
            return None
        lines = _last_lines(stderr)
        if exit_code == 1 and not any(line.startswith(_ABSL_HEAD) for line in lines):
            return None
        for line in reversed(lines):
            if line.startswith("Traceback (most recent call last)"):
                return None
            for code, words, style in _WORDS:
                if code == exit_code and words.search(line):
                    return self._refusal(line, lines, style, command)
            if exit_code == 2 and _ARGPARSE_CHOICE.search(line) and not self._has_positionals:
                return self._refusal(line, lines, ArgsStyle.flags, command)
        return None

    @property
    def _has_positionals(self) -> bool:
        signature = self.writer.signature if self.writer.style is not ArgsStyle.hydra else None
        return signature is not None and bool(signature.positionals)

    def _refusal(
        self, line: str, lines: list[str], reads: ArgsStyle, command: Sequence[str]
    ) -> Refusal:
        said = line.strip("│ ")
        # Without the interpreter, whose path is long and says nothing.
        names = (at for at, word in enumerate(command) if Path(word).name == self.writer.script)
        sent = join_command(command[next(names, 0) :])
        if len(sent) > _MAX_SENT:
            sent = f"{sent[:_MAX_SENT]}…"
        style = self._better(reads, lines)
        script = self.writer.script or "the script"
        if style is not None:
            advice = f"try --args-style {style}"
        elif _COMMAND.search(line) or _ARGPARSE_CHOICE.search(line) or _has_commands(lines):
            name = self.writer.script or "SCRIPT"
            advice = f"if it has commands, name one: -- python {name} COMMAND {{args}}"
        elif _MISSING.search(line):
            advice = "give what is missing as one more parameter: name=value"
        else:
            advice = "parameters must be arguments that it takes (--args-style none sends it none)"
        message = (
            f"{script} refused its arguments, so the sweep stops: {said} (sent: {sent}); {advice}"
        )
        return Refusal(said, message)

    def _better(self, reads: ArgsStyle, lines: list[str]) -> ArgsStyle | None:
        """Another style that the script may take."""
        if any("--hydra-help" in line for line in lines):
            reads = ArgsStyle.hydra
        found = self.writer.found or reads
        return None if found is self.writer.style else found


def _has_commands(lines: Sequence[str]) -> bool:
    return any(line.startswith("Usage: ") and "COMMAND" in line for line in lines)


def _last_lines(log: Path) -> list[str]:
    """The last lines of an attempt's log that are not empty."""
    lines = end_of_log(log, _MAX_TAIL).splitlines()
    return [line for line in lines if line.strip()][-_MAX_LINES:]

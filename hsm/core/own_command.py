"""The command that started this process, and lines that start its program again from any shell.

    python -O train.py -m x=1    ->    cd /home/me && /home/me/.venv/bin/python -O train.py -m x=1

`sys.argv` lacks the interpreter and its options, and programs change it: `sys.orig_argv` is what
ran.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from hsm.core.command_line import join_command
from hsm.core.interpreter import interpreter
from hsm.core.masked import masked_words

#: Options of the interpreter, whose value is the rest of the word or the next one.
_LETTERS_WITH_VALUE = "cmWX"
_WORDS_WITH_VALUE = ("--check-hash-based-pycs",)


def own_words() -> tuple[list[str], list[str]]:
    """Return the words that start this program, from any directory's shell, and its arguments.

    A program that was started without arguments may have given some to itself: then those. They
    lack the values of variables for jobs, since what is made of them is shown and recorded.
    """
    python = interpreter()
    if python is None:  # the program is its own
        return [sys.executable], masked_words(sys.argv[1:])
    end = _end_of_program(sys.orig_argv)
    program, arguments = [python, *sys.orig_argv[1:end]], sys.orig_argv[end:]
    if len(program) == 2 and os.sep in program[1] and _starts_itself(_main_file()):
        program = program[1:]
    return program, masked_words(arguments or sys.argv[1:])


def command_to_paste(words: Iterable[str], directory: str) -> str:
    """Return a line that runs `words`, which begin with those of `own_words`, from any shell.

    Args:
        words: the command.
        directory: where to run it, if the interpreter has not recorded where it was started.
    """
    return f"{join_command(['cd', _started_in() or directory])} && {join_command(words)}"


def _end_of_program(words: Sequence[str]) -> int:
    """Return the index of the first argument, after the interpreter's options and the program."""
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        word = words[at]
        at += 1
        if word == "--":
            break
        letter = next((char for char in word[1:] if char in _LETTERS_WITH_VALUE), "")
        if word.startswith("--"):
            at += word in _WORDS_WITH_VALUE
        elif letter:
            at += word.index(letter) == len(word) - 1
            if letter in "cm":  # `-c code` and `-m module` end the options as a script does
                return at
    return min(at + 1, len(words))


def _main_file() -> str:
    """The path of the program's main file, absolute since the start; empty without one."""
    return getattr(sys.modules["__main__"], "__file__", None) or ""


def _started_in() -> str:
    """The directory in which a relative path of the program led to its main file, else empty.

    The program may have left that directory since.
    """
    name = sys.orig_argv[_end_of_program(sys.orig_argv) - 1]
    for end in (name, os.path.join(name, "__main__.py")):  # a script; a directory or a zip file
        if not os.path.isabs(name) and _main_file().endswith(os.sep + end):
            return _main_file()[: -len(end)].rstrip(os.sep) or os.sep
    return ""


def _starts_itself(script: str) -> bool:
    """Whether a script, executed as it is, runs with this interpreter and none of its options."""
    try:
        with open(script, "rb") as file:
            first_line = file.readline(1 << 12)
    except OSError:
        return False
    runs_here = first_line.rstrip() == b"#!" + os.fsencode(sys.executable)
    return runs_here and os.access(script, os.X_OK)

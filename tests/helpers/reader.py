"""Someone who does what a page says, block by block, and compares what comes of it."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from omegaconf import OmegaConf

from helpers.docs import Block, missing_line
from hsm.core.settings.resolve import resolve_local
from hsm.core.space.definition import read_sweep_file


class Shell(Protocol):
    """Where a reader types.

    Attributes:
        folder: its working directory.
    """

    folder: Path

    def run(self, commands: str) -> tuple[int, str]:
        """Run commands up to the first that fails; returns the exit code and what they printed."""
        ...


class ShellPerBlock:
    """Each block has a bash of its own, which begins in the same folder.

    Args:
        folder: that one.
        env: of all of them.
        patience: seconds that a block may take.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], patience: float) -> None:
        self.folder = folder
        self._env = env
        self._patience = patience

    def run(self, commands: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=self._patience,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")


class OneShell:
    """One bash for all blocks, as a person has it: folders entered and environments activated stay.

    A block that fails ends it.

    Args:
        folder: where it begins.
        env: its environment.
        patience: seconds that a block may take.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], patience: float) -> None:
        self.folder = folder
        self._patience = patience
        self._bash = subprocess.Popen(
            ["bash", "-eo", "pipefail"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )

    def run(self, commands: str) -> tuple[int, str]:
        assert self._bash.stdin is not None
        # The braces make bash read all of it first: what runs may not read the rest as its input.
        block = f"{{\n{commands}\n}} </dev/null\nprintf '\\0%s\\0' \"$PWD\"\n"
        self._bash.stdin.write(block.encode())
        printed = self._read()
        if not printed.endswith("\0"):
            return self._bash.wait(self._patience), printed
        printed, folder, _ = printed.rsplit("\0", 2)
        self.folder = Path(folder)
        return 0, printed

    def _read(self) -> str:
        """What is printed up to the end of a block, or of the shell."""
        assert self._bash.stdout is not None
        deadline = time.monotonic() + self._patience
        printed = b""
        while not printed.endswith(b"\0") or printed.count(b"\0") < 2:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([self._bash.stdout], [], [], left)[0], printed.decode()
            piece = os.read(self._bash.stdout.fileno(), 65536)
            if not piece:
                break
            printed += piece
        return printed.decode(errors="replace")

    def close(self) -> None:
        """Leave it; kills what it still runs itself."""
        self._bash.kill()
        self._bash.communicate()


class Reader:
    """Does what a page says, from its top to its end.

    Attributes:
        printed: what the block that ran last has printed.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.printed = ""

    def do(self, block: Block) -> None:
        """Do what `block` says; fails if that goes otherwise than the page says."""
        if "file" in block.marks:
            path = self._shell.folder / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        {"bash": self._bash, "python": self._python, "yaml": self._yaml, "text": self._text}[
            block.language
        ](block)
        if "run" in block.marks:
            self._run(block.marks["run"], block)

    def _bash(self, block: Block) -> None:
        self._run(block.text, block)

    def _python(self, block: Block) -> None:
        if "file" in block.marks:
            compile(block.text, block.marks["file"], "exec")
            return
        (self._shell.folder / "snippet.py").write_text(block.text, encoding="utf-8")
        self._run("python snippet.py", block)

    def _run(self, commands: str, block: Block) -> None:
        code, self.printed = self._shell.run(commands)
        assert code == int(block.marks.get("exit", 0)), self.printed

    def _yaml(self, block: Block) -> None:
        path = self._shell.folder / block.marks["file"]
        if path.name == "hsm.yaml":
            resolve_local(hsm_config=path, environ={})
        elif "sweep" in path.name:
            assert read_sweep_file(path).count() > 0
        else:
            OmegaConf.load(path)

    def _text(self, block: Block) -> None:
        if "tree" in block.marks:
            (root,) = self._shell.folder.glob(block.marks["tree"])
            for line in block.text.splitlines():
                name = re.split(r"\s{2,}", line.strip())[0].replace("<n>", "0")
                assert list(root.glob(name.rstrip("/"))), f"there is no {name}"
        elif not {"file", "drawing"} & block.marks.keys():
            assert "output" in block.marks, "a block of text says what it shows"
            missing = missing_line(block.text, self.printed)
            assert missing is None, f"not printed: {missing}\n\nbut:\n{self.printed}"


def write_program(path: Path, text: str) -> None:
    """An executable file for `PATH`."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def write_python(path: Path, executable: str = sys.executable) -> None:
    """A program that is that interpreter, whatever it is called."""
    write_program(path, f'#!/bin/sh\nexec "{executable}" "$@"\n')

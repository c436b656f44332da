"""Sweep directories as somebody could have laid them out: a real one, changed in a few places.

    template (path -> bytes) --Spoiler.lay_out--> a directory, and what was done to it

The same seed makes the same directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

JOURNAL = ".hsm/journal.jsonl"
Template = Mapping[str, bytes]

#: JSON that stands for itself where Python's would not write it.
_RAW = (
    *("1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1" * 5000, "1" * 400, "-0.0"),
    *("[" * 3000 + "]" * 3000, '{"a":' * 500 + "1" + "}" * 500, "[" * 90 + "]" * 90),
    *('{"a":1,"a":2}', '"\\ud800"', '"\\u0000"', '"\\u202e\\u0007\\u009b31m"', "tru", ""),
)
_TEXTS = (
    *("", " ", "a\nb", "\x1b[2J\x1b]0;x\x07", "\x9b31m", "\u202etxt.exe", "\u2028", "\0", "\x7f"),
    *("../../../etc", "/etc/passwd", "=1+1", "<script>", "|", "a" * 5000, "[red]x[/red]", "%s%n"),
    *("COMPLETED", "RUNNING", "PENDING", "sweep", "submit", "start", "end", "retry", "resume"),
    *("requeue", "close", "~", "-x", "last", "{x}", "{job_dir}", "true", "\ud800"),
)
_NUMBERS = (
    *(0, 1, -1, 2, 3, 99, 255, 10**9, 1 << 31, 1 << 53, 1 << 63, 1 << 64, -(1 << 63), 10**30),
    *(0.5, -1.5, 1e15, 1e18, 1e300, 253402300800, 1769904000.0),
)
_MARK = "\x00hostile-raw-{}\x00"


class Spoiler:
    """Changes a sweep's directory in ways that its seed chooses.

    Args:
        outside: a folder beside it, with a file `file` and a folder `folder`, which links lead to.
    """

    def __init__(self, seed: int, outside: Path) -> None:
        self.random = random.Random(seed)
        self._outside = outside
        self.done: list[str] = []

    def lay_out(self, template: Template, directory: Path) -> None:
        """Write `template` to `directory`, spoilt; what was done is in `done`."""
        files = dict(template)
        changes: list[Callable[[dict[str, bytes]], None]] = [
            *(self._spoil_field,) * 6,
            *(self._spoil_lines, self._spoil_bytes, self._spoil_document),
        ]
        for _ in range(self.random.choice((0, 1, 1, 2, 3))):
            self.random.choice(changes)(files)
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for _ in range(self.random.choice((0, 0, 1, 2) if self.done else (1, 2))):
            self._replace_entry(directory)

    # --- what the files hold ---

    def value(self, depth: int = 0) -> Any:
        """Any JSON value."""
        kind = self.random.randrange(8 if depth < 3 else 5)
        if kind == 0:
            return _MARK.format(self.random.randrange(len(_RAW)))
        if kind == 1:
            return self.random.choice(_TEXTS)
        if kind == 2:
            return self.random.choice(_NUMBERS)
        if kind in (3, 4):
            return self.random.choice((None, True, False, [], {}))
        if kind == 5:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {
            self.random.choice(_TEXTS): self.value(depth + 1)
            for _ in range(self.random.randrange(4))
        }

    def _spoil_field(self, files: dict[str, bytes]) -> None:
        lines = files[JOURNAL].splitlines() or [b""]
        number = self._line(lines)
        try:
            record = json.loads(lines[number])
        except (ValueError, RecursionError):
            return
        if isinstance(record, dict) and self.random.random() < 0.1:
            self._lay_beside(record, files, number)
        else:
            self._note(f"line {number + 1}", self._spoil(record))
        lines[number] = _dump(record)
        files[JOURNAL] = b"\n".join(lines) + b"\n"

    def _lay_beside(self, record: dict[str, Any], files: dict[str, bytes], number: int) -> None:
        """Have any value of any field lie beside the journal, under the hash that it has."""
        data = _dump(self.value())
        sha256 = hashlib.sha256(data).hexdigest()
        files[f".hsm/large/{sha256}.json"] = data
        holder = record
        if isinstance(record.get("jobs"), list) and record["jobs"]:
            holder = self.random.choice(record["jobs"])
        if isinstance(holder, dict):
            name = self.random.choice([*_FIELDS, *holder])
            holder["large"] = {name: {"sha256": sha256, "size": len(data)}}
            self._note(f"line {number + 1}", f"{name} beside it")

    def _spoil(self, document: Any) -> str:
        """Change one value, wherever it is in `document`; returns where that was."""
        places = list(_places(document))
        if not places:
            return "nothing"
        holder, key = self.random.choice(places)
        if isinstance(holder, dict) and self.random.random() < 0.15:
            del holder[key]
        elif isinstance(holder, dict) and self.random.random() < 0.15:
            key = self.random.choice(_FIELDS)
            holder[key] = self.value()
        else:
            holder[key] = self.value()
        return str(key)

    def _spoil_lines(self, files: dict[str, bytes]) -> None:
        lines = files[JOURNAL].splitlines() or [b""]
        at, other = self._line(lines), self._line(lines)
        what = self.random.choice(("swap", "drop", "double", "insert", "many", "append"))
        if what == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        elif what == "drop":
            del lines[at]
        elif what == "double":
            lines.insert(other, lines[at])
        elif what == "many":
            lines[at:at] = [self.random.choice((b"", b"{}", lines[other]))] * 2000
        elif what == "insert":
            lines.insert(at, _dump(self.value()))
        else:
            lines.append(_dump({"event": self.random.choice(_TEXTS), "time": self.value()}))
        self._note("journal", f"{what} {at + 1}, {other + 1}")
        files[JOURNAL] = b"\n".join(lines) + b"\n"

    def _spoil_bytes(self, files: dict[str, bytes]) -> None:
        name = self.random.choice((JOURNAL, JOURNAL, self.random.choice(sorted(files))))
        data = bytearray(files[name])
        at = self.random.randrange(len(data) + 1)
        what = self.random.choice(("cut", "garbage", "zeros", "flip", "empty", "carriage returns"))
        if what == "cut":
            del data[at:]
        elif what == "garbage":
            data[at:at] = self.random.randbytes(self.random.choice((1, 20, 3000)))
        elif what == "zeros":
            data[at:at] = bytes(4096)
        elif what == "flip" and at < len(data):
            data[at] ^= 1 << self.random.randrange(8)
        elif what == "empty":
            data.clear()
        else:
            data = data.replace(b"\n", b"\r\n")
        self._note(name, f"{what} at {at}")
        files[name] = bytes(data)

    def _spoil_document(self, files: dict[str, bytes]) -> None:
        names = [name for name in files if name.endswith(".json")]
        name = self.random.choice(sorted(names))
        try:
            document = json.loads(files[name])
        except (ValueError, RecursionError):
            return
        if self.random.random() < 0.3:
            document = self.value()
        else:
            self._spoil(document)
        self._note(name, "another value")
        files[name] = _dump(document)

    def _line(self, lines: list[bytes]) -> int:
        """Any line's index, and the first more rarely than that: without it there is no sweep."""
        at = self.random.randrange(len(lines))
        return at or self.random.randrange(len(lines))

    # --- what has the files' names ---

    def _replace_entry(self, directory: Path) -> None:
        names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
        names += [".hsm", ".hsm/lock", ".hsm/requests", ".hsm/requests/all", ".hsm/logs/0.out"]
        path = directory / self.random.choice(names)
        # Nothing is laid below what leads out of the directory, or is no folder.
        above = [parent for parent in path.parents if directory in parent.parents]
        if any(os.path.lexists(each) and not _is_folder(each) for each in above):
            return
        kinds = (
            *(_pipe, _socket, _folder, _sparse, self._unreadable, self._link, self._dangling),
            *(self._loop, self._device, self._folder_link, self._hard_link, self._inside_link),
        )
        put = self.random.choice(kinds)
        if put is not self._unreadable:
            _remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        self._note(str(path.relative_to(directory)), put.__name__.strip("_"))
        put(path)

    def _unreadable(self, path: Path) -> None:
        if path.exists():
            path.chmod(0)

    def _link(self, path: Path) -> None:
        path.symlink_to(self._outside / "file")

    def _folder_link(self, path: Path) -> None:
        path.symlink_to(self._outside / "folder")

    def _hard_link(self, path: Path) -> None:
        path.hardlink_to(self._outside / "file")

    def _dangling(self, path: Path) -> None:
        path.symlink_to(self._outside / "nowhere")

    def _loop(self, path: Path) -> None:
        path.symlink_to(path)

    def _device(self, path: Path) -> None:
        path.symlink_to(
            self.random.choice(("/dev/zero", "/dev/full", "/dev/tty", "/proc/self/mem"))
        )

    def _inside_link(self, path: Path) -> None:
        path.symlink_to(self.random.choice((".", "..", "../results", "journal.jsonl", "0.err")))

    def _note(self, where: str, what: str) -> None:
        self.done.append(f"{where}: {what}")


#: Fields that a record of any kind may be given.
_FIELDS = (
    *("v", "event", "sweep_id", "time", "pid", "host", "hsm", "argv", "cwd", "git", "settings"),
    *("program", "jobs", "job", "id", "label", "params", "attempt", "state", "exit_code", "signal"),
    *("reason", "error_type", "error_message", "cpu_seconds", "max_memory", "value", "job_dir"),
    *("slot", "gpus", "waited", "planned", "objective", "kill_grace", "script", "command"),
)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a document, as what holds it and its key there."""
    items: Any = ()
    if isinstance(document, dict):
        items = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))
    for key, value in items:
        yield document, key
        yield from _places(value)


def _dump(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=True)
    for number, raw in enumerate(_RAW):
        text = text.replace(json.dumps(_MARK.format(number)), raw)
    return text.encode()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _sparse(path: Path) -> None:
    # All of a log is given out.
    with path.open("wb") as file:
        file.truncate(1 << 20 if path.parent.name == "logs" else 10 << 30)


def _socket(path: Path) -> None:
    # A socket's path may be 107 bytes long: it is made from its own folder.
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)

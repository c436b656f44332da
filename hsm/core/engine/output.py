"""What running jobs print, read back from their log files.

    job --writes--> <n>.out, <n>.err <--reads-- OutputFollower's thread --lines--> sink

Jobs write to their files directly: whatever happens here, no job waits for it, no output is lost.
"""

from __future__ import annotations

import codecs
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.files import open_log, read_end
from hsm.core.logger import get_logger
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths

MAX_LINE = 64 * 1024
"""Bytes of a line that are held; a longer one comes in pieces of this size."""

_CHUNK = 1 << 20  # bytes read of one file before the next one's turn
_TAIL = 4096  # bytes in which the last line is looked for
_POLL_INTERVAL = 0.05  # seconds between two looks at the files
_LINE_ENDS = re.compile(r"[\r\n]")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_log = get_logger(__name__)

Sink = Callable[[Job, str, str], None]
"""Takes a job, ``"stdout"`` or ``"stderr"``, and a line without its newline."""


class LineSplitter:
    r"""Turns the bytes of one stream, in chunks of any size, into lines of text.

    A line ends at ``\n``; a ``\r`` before that is not part of it. Any other ``\r`` starts the line
    anew, as progress bars do: of such a line only the last state that was not empty counts. Bytes
    that are no UTF-8 become U+FFFD; terminal control sequences stay. A line of more than `longest`
    bytes comes in pieces of at most that, so no more than a piece and a chunk is ever held.
    How the stream was cut into chunks makes no difference to the lines.

    Args:
        longest: bytes; at least 4.
    """

    def __init__(self, longest: int = MAX_LINE) -> None:
        self._longest = longest
        self._rest = b""  # of the line that has not ended; with a \r that came last
        self._is_redrawn = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete with `data`."""
        *ended, rest = (self._rest + data).split(b"\n")
        lines: list[str] = []
        for line in ended:
            pieces, last = self._take_apart(line)
            lines += pieces
            lines.append(_decode(last.removesuffix(b"\r")))
        pieces, self._rest = self._take_apart(rest)
        lines += pieces
        self._is_redrawn = b"\r" in rest or (self._is_redrawn and not ended)
        return lines

    @property
    def is_redrawn(self) -> bool:
        r"""Whether a ``\r`` has come since the last newline."""
        return self._is_redrawn

    def redraw(self) -> str:
        """What stands in the line that has not ended yet."""
        return codecs.utf_8_decode(self._rest.removesuffix(b"\r"), "replace", False)[0]

    def close(self) -> list[str]:
        """The stream ends here: the last line, if it had no newline."""
        rest, self._rest, self._is_redrawn = self._rest.removesuffix(b"\r"), b"", False
        return [_decode(rest)] if rest else []

    def _take_apart(self, line: bytes) -> tuple[list[str], bytes]:
        """The pieces that are full, and what stands in the line after them."""
        if len(line) <= self._longest and b"\r" not in line:
            return [], line
        pieces: list[str] = []
        last = b""
        for redraw in line.split(b"\r"):
            start = 0
            while len(redraw) - start > self._longest:
                end = _whole_characters(redraw, start + self._longest)
                pieces.append(_decode(redraw[start:end]))
                start = end
            last = redraw[start:] or last
        return pieces, last + b"\r" if line.endswith(b"\r") else last


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _whole_characters(data: bytes, end: int) -> int:
    """Where to cut `data`, at `end` or up to three bytes before, so that no character is cut."""
    return next((at for at in range(end, end - 4, -1) if data[at] & 0xC0 != 0x80), end)


class _Stream:
    """One log file that is being followed. Only the follower's thread calls its methods."""

    def __init__(self, name: str, path: Path, start: int) -> None:
        self.name = name
        self.path = path
        self.start = start
        self._offset = start
        self._target: int | None = None
        self._fd: int | None = None
        self._splitter = LineSplitter()
        self._told = ""  # the state of the current line that was told as if it were a line
        self._told_at: float | None = None  # or, at first, when the line was seen to be redrawn
        self._has_warned = False

    def read(self) -> tuple[list[str], bool]:
        """The next lines, and whether anything was read at all."""
        try:
            data, was_truncated = self._read()
        except FileNotFoundError:
            return [], False  # not yet
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                _log.warning("cannot read %s: %s", self.path, error.strerror)
            return [], False
        lines = self._splitter.close() if was_truncated else []
        if data:
            lines += self._splitter.feed(data)
        return self._not_told(lines), bool(data)

    def _read(self) -> tuple[bytes, bool]:
        if self._fd is None:
            self._fd = open_log(self.path)
        size = os.fstat(self._fd).st_size
        was_truncated = size < self._offset
        if was_truncated:
            self._offset = 0
        if size == self._offset:
            return b"", was_truncated
        data = os.pread(self._fd, _CHUNK, self._offset)
        self._offset += len(data)
        return data, was_truncated

    def _not_told(self, lines: list[str]) -> list[str]:
        if lines and self._told:
            if lines[0] == self._told:
                lines = lines[1:]
            self._told = ""
        return lines

    def redraw(self, now: float, interval: float) -> list[str]:
        """The state of a line that is being redrawn, if it is to be told at `now` (monotonic)."""
        if not self._splitter.is_redrawn:
            self._told_at = None
        elif self._told_at is None:
            self._told_at = now
        elif now - self._told_at >= interval:
            self._told_at = now
            state = self._splitter.redraw()
            if state != self._told and state.strip():
                self._told = state
                return [state]
        return []

    def set_target(self) -> None:
        """What is written from now on need not be read."""
        if self._target is None:
            with suppress(OSError):
                self._target = self.path.lstat().st_size

    def is_at_target(self) -> bool:
        return self._target is not None and self._offset >= self._target

    def finish(self) -> list[str]:
        """Close the file; returns the last line, if it had no newline."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        return self._not_told(self._splitter.close())


class _Followed:
    def __init__(self, job: Job, streams: tuple[_Stream, _Stream]) -> None:
        self.job = job
        self.streams = streams
        self.is_ending = False
        self.is_over = threading.Event()


class OutputFollower:
    """Follows the log files of all running jobs, of any number of sweeps.

    With `every_line` a thread, started for the first job, polls the files and hands their lines to
    `sink`. Nobody else calls `sink`, so it gets whole lines, one at a time, each stream's in their
    order; after each MiB of a job the others have their turn. A line that is redrawn (a progress
    bar) is handed over when its newline comes, and until then as it stands every `redraw_interval`
    seconds, if it has changed. A file that was truncated is read from its beginning again.

    If `sink` raises, this is logged and it gets no more lines. It must not call `remove` or `stop`.

    Args:
        sink: takes the lines.
        every_line: False: there is no thread and `sink` is not called; only `last_line` is of use.
        redraw_interval: seconds between two states of a line that is redrawn.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        every_line: bool = True,
        redraw_interval: float = 2.0,
    ) -> None:
        self._sink: Sink | None = sink if every_line else None
        self._redraw_interval = redraw_interval
        # Guards what follows. Neither files nor the sink are touched under it.
        self._changed = threading.Condition()
        self._followed: dict[str, _Followed] = {}
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def add(
        self, job: Job, paths: SweepPaths, *, stdout_start: int = 0, stderr_start: int = 0
    ) -> None:
        """Follow `job`; its files need not exist yet. After `stop` this does nothing.

        Args:
            job: one that is not followed.
            paths: its sweep's.
            stdout_start, stderr_start: bytes to skip, which an earlier attempt has written.
        """
        streams = (
            _Stream("stdout", paths.stdout(job.num), stdout_start),
            _Stream("stderr", paths.stderr(job.num), stderr_start),
        )
        with self._changed:
            if self._is_stopped:
                return
            if job.job_id in self._followed:
                raise ValueError(f"job {job.job_id} is followed already")
            if self._sink is not None and self._thread is None:
                name = f"{OWN_THREADS}output"
                thread = threading.Thread(target=self._follow, name=name, daemon=True)
                thread.start()
                self._thread = thread  # Not before: `stop` waits for it.
            self._followed[job.job_id] = _Followed(job, streams)
            self._changed.notify()

    def remove(self, job: Job) -> None:
        """Follow `job` no longer; first `sink` gets all that it has written until now.

        A job that is not followed is none of the follower's business.
        """
        with self._changed:
            followed = self._followed.get(job.job_id)
            if followed is None:
                return
            if self._thread is None:
                del self._followed[job.job_id]
                return
            followed.is_ending = True
            self._changed.notify()
        followed.is_over.wait()

    def last_line(self, job: Job) -> str:
        """The last line with anything visible in it that a followed job has printed; else "".

        Of both streams, the one that was written to last. Reads 4 KiB of a file at most, and of a
        longer line shows the end.
        """
        with self._changed:
            followed = self._followed.get(job.job_id)
        if followed is None:
            return ""
        written: list[tuple[int, _Stream]] = []
        for stream in followed.streams:
            with suppress(OSError):
                written.append((stream.path.lstat().st_mtime_ns, stream))
        written.sort(key=lambda entry: entry[0], reverse=True)
        return next((line for _, stream in written if (line := _last_line(stream))), "")

    def stop(self) -> None:
        """End the thread and close all files; what was not read by now is dropped. Idempotent."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
            if self._thread is None:
                self._followed.clear()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        """The thread."""
        try:
            is_busy = False
            while followed := self._wait(is_busy):
                is_busy = False
                for each in followed:
                    is_busy |= self._take_turn(each)
        finally:
            with self._changed:
                self._is_stopped = True
                left = list(self._followed.values())
                self._followed.clear()
            for each in left:
                self._forget(each)

    def _wait(self, is_busy: bool) -> list[_Followed]:
        """What to look at, once there is something; empty: the end."""
        with self._changed:
            if not is_busy and not self._is_stopped and not self._is_any_ending():
                self._changed.wait(_POLL_INTERVAL if self._followed else None)
            while not self._followed and not self._is_stopped:
                self._changed.wait()
            return [] if self._is_stopped else list(self._followed.values())

    def _is_any_ending(self) -> bool:
        return any(each.is_ending for each in self._followed.values())

    def _take_turn(self, followed: _Followed) -> bool:
        """Read on in a job's files; returns whether there was anything."""
        is_ending = followed.is_ending
        has_read, is_over = False, is_ending
        for stream in followed.streams:
            if is_ending:
                stream.set_target()
            lines, was_read = stream.read()
            if not is_ending:
                lines += stream.redraw(time.monotonic(), self._redraw_interval)
            self._tell(followed.job, stream, lines)
            has_read |= was_read
            is_over &= stream.is_at_target() or not was_read
        if is_over:
            with self._changed:
                del self._followed[followed.job.job_id]
            self._forget(followed)
        return has_read

    def _forget(self, followed: _Followed) -> None:
        for stream in followed.streams:
            self._tell(followed.job, stream, stream.finish())
        followed.is_over.set()

    def _tell(self, job: Job, stream: _Stream, lines: list[str]) -> None:
        for line in lines:
            if self._sink is None:
                return
            try:
                self._sink(job, stream.name, line)
            except Exception:
                self._sink = None
                _log.exception("the output of jobs is no longer shown")


def _last_line(stream: _Stream) -> str:
    """The last line in the file's last 4 KiB in which something is visible."""
    try:
        with open(open_log(stream.path), "rb", buffering=0) as file:
            data, is_cut = read_end(file, _TAIL, stream.start)
    except OSError:
        return ""
    if is_cut:
        data = data.lstrip(bytes(range(0x80, 0xC0)))  # the end of a character that is cut
    text = codecs.utf_8_decode(data, "replace", False)[0]
    for line in reversed(_LINE_ENDS.split(text)):
        if _ESCAPES.sub("", line).strip():
            return line.rstrip()
    return ""

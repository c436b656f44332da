"""The logs of a slot's jobs: the pipes that jobs print into, and the files that a keeper fills.

    job --write--> pipe --splice--> <n>.out          and a second pair, for <n>.err
                     |
                     `-- read ends: the keeper's, and the fork server's as a spare

A job has no descriptor of the file itself: even if it reopens its stdout (/dev/stdout,
/proc/self/fd/1), it can neither truncate the log nor overwrite it. If the keeper is killed, the
job's output stays in the pipe until the fork server, which has a read end as well, empties it. So
there is always a reader, and no job gets SIGPIPE.

The pipes belong to a slot, not to a job. Jobs cannot mix in them, because a job has not ended until
all of its processes have.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Container
from contextlib import ExitStack
from functools import partial

from hsm.core.engine.backend import Launch
from hsm.core.files import NotRegular, make_folder_below, open_folder_below, open_in
from hsm.core.local.processes.log_bound import LogBound
from hsm.core.local.processes.log_pipe import ROOM_INTERVAL, LogPipe, describe_lost
from hsm.core.local.processes.note import Note

#: Seconds between two looks at a pipe that fills slowly, so that a job that prints now and then
#: does not wake its keeper for each line.
_MAX_PAUSE = 0.05
#: Seconds; a shorter pause is not worth it.
_MIN_PAUSE = 0.001
#: Seconds that output waits for room on a full disk after its job has ended.
_LAST_TIMEOUT = 1.0
#: Seconds that the fork server waits for the last processes of a job that it has killed.
_RESCUE_TIMEOUT = 1.0
#: Bytes of the paths of the sweep's directory and of a job's two logs.
_MAX_NAMES = 1 << 14


class JobLogs:
    """The two pipes of a slot, and when to look at them. The fork server makes one per keeper.

    For each job, the keeper calls `begin`, `look` and `finish`. If the keeper was killed, the fork
    server calls `rescue`.

    Attributes:
        next_look: when to look for output next (monotonic); None between two jobs.
    """

    def __init__(self) -> None:
        """Make the pipes. Raises OSError."""
        with ExitStack() as undo:
            out = LogPipe()
            undo.callback(out.close)
            err = LogPipe()
            undo.callback(err.close)
            self._names = Note(_MAX_NAMES)  # paths of the files that the keeper fills
            undo.pop_all()
        self._pipes: tuple[LogPipe, LogPipe] = (out, err)
        self._began = self._looked = 0.0
        self.next_look: float | None = None
        self._poll = select.poll()
        for fd in self.read_ends:
            self._poll.register(fd, select.POLLIN)

    @property
    def read_ends(self) -> tuple[int, int]:
        """The pipes' read ends, which become ready when a job has printed."""
        return self._pipes[0].read_end, self._pipes[1].read_end

    @property
    def write_ends(self) -> tuple[int, int]:
        """The pipes' write ends: a job's stdout and stderr."""
        return self._pipes[0].write_end, self._pipes[1].write_end

    def begin(self, launch: Launch) -> tuple[int, int]:
        """Open the logs of the next job; return their sizes.

        Raises:
            OSError: a log cannot be written.
        """
        names = launch.root, launch.stdout, launch.stderr
        self._names.write("\0".join(names).encode("utf-8", "surrogateescape"))
        sizes = self._open(*names, launch.header, launch.log_limit)
        self._began = self._looked = self.next_look = time.monotonic()
        return sizes

    def look(self, ready: Container[int]) -> None:
        """Move what the job has printed, and schedule the next look by the pace of its output.

        A job that prints little causes few looks, and one that prints a lot never waits.

        Args:
            ready: those of `read_ends` that have output.
        """
        shares = [
            pipe.move() if pipe.read_end in ready or pipe.is_behind else 0.0 for pipe in self._pipes
        ]
        now = time.monotonic()
        if None in shares:
            pause = ROOM_INTERVAL
        else:
            fullest = max(share or 0.0 for share in shares)
            # Pause until a quarter of the pipe is full at the current pace; not for long while the
            # job is young, since its first line may be one of many. A job that has filled the pipe
            # is blocked, so its pace is unknown.
            longest = max(_MIN_PAUSE, min((now - self._began) / 4, _MAX_PAUSE))
            pause = min((now - self._looked) / max(4 * fullest, 1e-9), longest)
            if fullest >= 0.5 or pause < _MIN_PAUSE:
                pause = 0.0
        self._looked = now
        self.next_look = now + pause

    def finish(self, *, patiently: bool) -> str | None:
        """Move the rest of an ended job's output and close its logs; describe what is lost, if any.

        Args:
            patiently: whether to wait a moment for room on a full disk.
        """
        # Most jobs have printed nothing since the last look. Each step skipped then saves the
        # keeper from copying memory pages that it shares with the job.
        out, err = self._pipes
        if self._poll.poll(0) or out.is_behind or err.is_behind:
            until = time.monotonic() + (_LAST_TIMEOUT if patiently else 0.0)
            for pipe in self._pipes:
                pipe.empty(until)
        self.close_files()
        if out.lost is None and err.lost is None:
            return None
        lost = [pipe.lost for pipe in self._pipes if pipe.lost is not None]
        return describe_lost(sum(size for size, _ in lost), lost[0][1])

    def close_files(self) -> None:
        """Close the logs that `begin` has opened; the slot's next job gets others."""
        for pipe in self._pipes:
            pipe.close_file()
        self.next_look = None

    def give_to_job(self) -> None:
        """In a job's process: make the pipes its stdout and stderr, and close everything else."""
        for fd, end in enumerate(self.write_ends, start=1):
            os.dup2(end, fd)
        for pipe in self._pipes:
            pipe.leave()

    def leave_to_keeper(self) -> None:
        """In the fork server: close the write ends, so that a pipe ends with its last writer."""
        for pipe in self._pipes:
            pipe.close_write_end()

    def rescue(self) -> None:
        """In the fork server: move the output left by a keeper and job that were killed.

        Waits for the job's last process, but not for long.
        """
        names = self._read_names()
        poll = select.poll()
        pipes = {pipe.read_end: pipe for pipe in self._pipes}
        for fd in pipes:
            poll.register(fd, select.POLLIN)
        until = time.monotonic() + _RESCUE_TIMEOUT
        while pipes and (left := until - time.monotonic()) > 0:
            for fd, event in poll.poll(left * 1000):
                if not event & select.POLLIN:  # the pipe is empty and has no writer left
                    poll.unregister(fd)
                    del pipes[fd]
                    continue
                if names is not None:
                    self._open(*names)
                    names = None
                pipes[fd].move(until=0.0)

    def close(self) -> None:
        """Close all descriptors."""
        for pipe in self._pipes:
            pipe.close()
        self._names.close()

    def _open(
        self,
        root: str,
        stdout: str,
        stderr: str,
        header: str | None = None,
        limit: int | None = None,
    ) -> tuple[int, int]:
        out, err = open_logs(root, stdout, stderr)
        sizes = []
        for pipe, file, path in zip(self._pipes, (out, err), (stdout, stderr), strict=True):
            again = partial(_open_again, root, path)
            bound_from = None if limit is None else partial(_bound, root, path, limit)
            sizes.append(pipe.open(file, header, again, bound_from))
        return sizes[0], sizes[1]

    def _read_names(self) -> tuple[str, str, str] | None:
        noted = self._names.read()
        if noted is None:
            return None
        root, stdout, stderr = noted.decode("utf-8", "surrogateescape").split("\0")
        return root, stdout, stderr


def open_logs(root: str, stdout: str, stderr: str) -> tuple[int, int]:
    """Open a job's two log files, which are in one directory below `root`; see `open_below`.

    If anything other than a regular file has such a name, a pipe made by an earlier attempt, say,
    it is renamed. The files are opened without O_APPEND, which would rule out splice and is not
    needed with a single writer.

    Raises:
        OSError: a log cannot be written.
    """
    directory, _, name = stdout.rpartition(os.sep)
    folder = _open_folder(root, directory)
    try:
        out = _open_log(folder, name)
        try:
            return out, _open_log(folder, stderr.rpartition(os.sep)[2])
        except BaseException:
            os.close(out)
            raise
    finally:
        os.close(folder)


def _open_again(root: str, path: str) -> int:
    """Open one log file, as `open_logs` opens two."""
    directory, name = os.path.split(path)
    folder = _open_folder(root, directory)
    try:
        return _open_log(folder, name)
    finally:
        os.close(folder)


def _bound(root: str, path: str, limit: int, start: int) -> LogBound:
    directory, name = os.path.split(path)
    return LogBound(limit, start, partial(_open_folder, root, directory), name)


def _open_folder(root: str, path: str) -> int:
    try:
        return open_folder_below(root, path)
    except FileNotFoundError:
        make_folder_below(root, path)  # a job removed it, which must not harm other jobs
        return open_folder_below(root, path)


def _open_log(folder: int, name: str) -> int:
    try:
        return open_in(folder, name, os.O_RDWR | os.O_CREAT)
    except NotRegular:
        number = 1
        while _is_there(folder, aside := f"{name}.{number}"):
            number += 1
        os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
        return open_in(folder, name, os.O_RDWR | os.O_CREAT)


def _is_there(folder: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True

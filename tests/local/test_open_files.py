"""a. Files that the app opened for reading at import: each job reads them for itself."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from helpers.processes import App, first_fast
from hsm.core.local.processes import own_files
from hsm.core.local.processes.own_files import FileLost, OpenFile

pytestmark = pytest.mark.thorough

JOBS = 8
#: The first half of each is read, then all jobs meet: the second half would be another job's.
_APP = """
    import fcntl, hashlib, io, tarfile, zipfile

    DATA = b"".join(b"%07d\\n" % n for n in range(20_000))
    HALF = len(DATA) // 2
    Path("data").write_bytes(DATA)


    def meet(number):
        "Wait for all other jobs, where they run at the same time."
        if "HSM_JOB_ID" in os.environ:
            note(f"at.{{number}}")
            for other in range({jobs}):
                wait_for(f"at.{{other}}")

    {opened}

    def job(cfg):
        value = read(cfg.job)
        note(f"value.{{cfg.job}}", value)
        return value
"""

_HALVES = """
    with zipfile.ZipFile("data.zip", "w", zipfile.ZIP_DEFLATED) as written:
        written.write("data")
    with tarfile.open("data.tar", "w") as written:
        written.add("data")
    Path("nameless").write_bytes(DATA)

    FILES = {
        "file": open("data", "rb"),
        "text": open("data"),
        "descriptor": io.FileIO(os.open("data", os.O_RDONLY)),
        "without a name": open("nameless", "rb"),
        "locked": open("data", "rb"),
        "in a zip archive": zipfile.ZipFile("data.zip").open("data"),
        "in a tar archive": tarfile.open("data.tar").extractfile("data"),
    }
    fcntl.flock(FILES["locked"], fcntl.LOCK_SH)
    os.unlink("nameless")


    def read(number):
        first = {}
        for kind, file in FILES.items():
            file.seek(0)
            first[kind] = file.read(HALF)
        meet(number)
        return {kind: digest(first[kind] + file.read()) for kind, file in FILES.items()}


    def digest(text):
        data = text.encode() if isinstance(text, str) else text
        return [len(data), hashlib.sha256(data).hexdigest()]
"""


def app(folder: Path, opened: str) -> App:
    return App(folder, dedent(_APP).format(opened=dedent(opened).strip(), jobs=JOBS))


def noted(folder: Path) -> list[str]:
    values = [(folder / f"value.{number}").read_text() for number in range(JOBS)]
    for number in range(JOBS):
        (folder / f"value.{number}").unlink()
    return values


@pytest.mark.slow
def test_each_job_reads_all_of_a_file_as_under_hydras_own_launcher(tmp_path: Path) -> None:
    """Plain files, text, descriptors, archives, files that were removed, and one with a lock."""
    reading = app(tmp_path, _HALVES)
    assert reading.run(f"job=range({JOBS})", launcher="basic").code == 0
    expected = noted(tmp_path)
    assert len(set(expected)) == 1
    swept = reading.run(f"job=range({JOBS})", start_method="fork", max_parallel_jobs=JOBS)
    assert swept.states == ["COMPLETED"] * JOBS, swept.screen
    assert noted(tmp_path) == expected


@pytest.mark.slow
def test_each_job_begins_where_the_app_had_got_to(tmp_path: Path) -> None:
    reading = app(
        tmp_path,
        """
        file = open("data")
        file.readline()                     # what is in its buffer now is the job's, too
        fd = os.open("data", os.O_RDONLY)
        os.set_inheritable(fd, True)
        os.lseek(fd, 16, os.SEEK_SET)
        same = os.dup(fd)                   # has one offset with it
        os.makedirs("shelf/a")
        os.mkdir("shelf/b")
        folder = os.open("shelf", os.O_RDONLY)
        def read(number):
            found = [file.readline(), os.read(fd, 8), os.read(same, 8), os.get_inheritable(fd)]
            meet(number)
            found += [file.readline(), len(file.read()), os.read(fd, 8)]
            return str([*found, sorted(os.listdir(folder))])
        """,
    )
    swept = reading.run(f"job=range({JOBS})", start_method="fork", max_parallel_jobs=JOBS)
    lines = ["0000001\n", b"0000002\n", b"0000003\n", True, "0000002\n", 159_976]
    assert swept.values == [str([*lines, b"0000004\n", ["a", "b"]])] * JOBS, swept.screen


@pytest.mark.slow
def test_what_is_written_by_several_jobs_stays_whole(tmp_path: Path) -> None:
    """They share the offset, as nothing else keeps one job's lines from another's place."""
    writing = app(
        tmp_path,
        """
        log = open("log", "w", buffering=1)
        both = open("both", "w+")
        def read(number):
            log.write(f"{number} begins\\n")
            meet(number)
            log.write(f"{number} ends\\n")
            both.write("x" * 100)
        """,
    )
    swept = writing.run(f"job=range({JOBS})", start_method="fork", max_parallel_jobs=JOBS)
    assert swept.states == ["COMPLETED"] * JOBS
    lines = [f"{number} {what}" for number in range(JOBS) for what in ("begins", "ends")]
    assert sorted((tmp_path / "log").read_text().splitlines()) == lines
    assert (tmp_path / "both").read_text() == "x" * 100 * JOBS


@pytest.mark.slow
@pytest.mark.parametrize("number_goes_to", first_fast("another file", "nobody"))
def test_a_file_that_is_closed_just_before_the_fork_costs_no_job(
    tmp_path: Path, number_goes_to: str
) -> None:
    """As one of another thread's may be: hsm's own threads read results, for example."""
    body = f"""
        Path("data").write_text("the data")
        Path("other").write_text("the other")
        data = open("data")
        data.read(5)
        other = []


        def just_before_the_fork():
            if not data.closed:
                data.close()
                if {number_goes_to == "another file"}:
                    other.append(open("other"))


        os.register_at_fork(before=just_before_the_fork)


        def job(cfg):
            return [data.closed, *(file.read() for file in other)]
    """
    swept = App(tmp_path, dedent(body)).run("job=range(2)", start_method="fork")
    assert swept.states == ["COMPLETED"] * 2, swept.screen
    # It was opened too late to be known: both jobs have it, and share one offset.
    read = [["", "the other"]] if number_goes_to == "another file" else []
    assert [sorted(values) for values in zip(*swept.values, strict=True)] == [[True, True], *read]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("0123456789")
    return path


def test_a_file_that_is_closed_during_the_look_is_nothing_that_jobs_share(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of hsm's own threads may be: the job whose slot's thread looked was FAILED."""
    with open(text) as file:

        def close_it(found: OpenFile) -> bool:
            if not file.closed and file.fileno() in found.fds:
                file.close()
                return False
            return True

        monkeypatch.setattr(OpenFile, "is_reopenable", close_it)
        assert own_files.shared_files() == []
        assert file.closed


def found(fd: int) -> list[own_files.OpenFile]:
    return [file for file in own_files.find() if fd in file.fds]


def test_only_what_is_read_and_has_an_offset_is_opened_again(text: Path) -> None:
    reading = os.open(text, os.O_RDONLY | os.O_NOATIME)
    others = [
        *(os.open(text, flags) for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_PATH)),
        *(os.open("/dev/urandom", os.O_RDONLY), *os.pipe()),
    ]
    try:
        (file,) = found(reading)
        assert file.flags & os.O_NOATIME
        assert not any(found(fd) for fd in others)
    finally:
        for fd in (reading, *others):
            os.close(fd)


def test_a_file_that_is_a_lock_stays_one(text: Path) -> None:
    """A second description could not have the lock, and its own jobs would wait for it."""
    with text.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert found(file.fileno()) == []
        fcntl.flock(file, fcntl.LOCK_UN)
        assert len(found(file.fileno())) == 1


def test_a_file_that_can_no_longer_be_opened_costs_the_job_and_is_named(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with text.open() as file:
        (opened,) = found(file.fileno())

        def stale(*_: object) -> int:
            raise OSError(116, "Stale file handle")

        monkeypatch.setattr(os, "open", stale)
        with pytest.raises(FileLost, match=r"text open for reading.*Stale file handle"):
            opened.reopen()


_WITHOUT_PERMISSION = """
import ctypes, os, sys
from hsm.core.local.processes import own_files
from hsm.core.local.fork_safety.start_method import look

look()  # Later it could not import what it needs.
file = open(sys.argv[1])
os.chmod(sys.argv[1], 0)
if os.geteuid() == 0:
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is its own again
print(own_files.shared_files(), [f for f in own_files.find() if file.fileno() in f.fds])
print([(finding.text, finding.is_harmful) for finding in look()])
"""


def test_a_file_that_cannot_be_opened_again_is_named_beforehand(text: Path) -> None:
    command = [sys.executable, "-c", _WITHOUT_PERMISSION, str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    why = f"the launching process has a file open that jobs cannot open for themselves ({text})"
    assert done.stdout == f"['{text}'] []\n{[(why, True)]}\n"

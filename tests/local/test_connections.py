"""b. Connections, pipes and queues that the app made at import: no job gets another's answers."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.looks import look_in, start_methods
from helpers.processes import SOURCE, App

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, auto is spawn"),
]


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@contextmanager
def _server() -> Iterator[int]:
    """A server that answers each line with the same; its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_answers_come_to_the_job_that_asked(tmp_path: Path) -> None:
    with _server() as port:
        (tmp_path / "net.py").write_text(
            "import socket\n"
            f"file = socket.create_connection(('127.0.0.1', {port})).makefile('rw')\n"
            "def ask(text):\n"
            "    file.write(f'{text}\\n')\n"
            "    file.flush()\n"
            "    return file.readline().strip()\n"
            "ask('hello')\n"
        )
        app = App(
            tmp_path,
            """
            import net

            def job(cfg):
                return all(net.ask(f"{cfg.job} {n}") == f"{cfg.job} {n}" for n in range(200))
            """,
        )
        done = app.run("job=range(4)", max_parallel_jobs=4, seconds=240)
    assert done.values == [True] * 4, done.screen
    assert start_methods(done) == ["spawn"]
    assert f"the launching process has a connection open (to 127.0.0.1:{port})" in done.screen


@pytest.mark.slow
def test_a_process_that_answers_through_pipes(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text(
        "import subprocess\n"
        "tool = subprocess.Popen(['cat'], stdin=-1, stdout=-1, text=True, bufsize=1)\n"
        "def ask(text):\n"
        "    tool.stdin.write(f'{text}\\n')\n"
        "    return tool.stdout.readline().strip()\n"
        "ask('hello')\n"
    )
    app = App(
        tmp_path,
        """
        import tool

        def job(cfg):
            return all(tool.ask(f"{cfg.job} {n}") == f"{cfg.job} {n}" for n in range(200))
        """,
    )
    done = app.run("job=range(4)", max_parallel_jobs=4, seconds=240)
    assert done.values == [True] * 4, done.screen
    assert start_methods(done) == ["spawn"]


def test_what_counts(tmp_path: Path) -> None:
    seen = look_in(
        """
        import multiprocessing, os, socket, threading, time
        queue = multiprocessing.SimpleQueue()
        see("queue")
        thread = threading.Thread(target=queue.get)
        thread.start()
        while any(finding.is_harmful for finding in look()):
            time.sleep(0.01)
        see("queue that a thread reads")
        queue.put(None)
        thread.join()
        queue.close()
        pipe = multiprocessing.Pipe()
        see("pipe")
        pipe[0].close(), pipe[1].close()
        server = socket.create_server(("127.0.0.1", 0))
        see("listens")
        client = socket.create_connection(server.getsockname())
        see("connection")
        server.close(), client.close()
        path = f"{os.getcwd()}/s"[-90:]
        server = socket.socket(socket.AF_UNIX)
        os.chdir(os.path.dirname(path))
        server.bind("s")
        server.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect("s")
        server.close()
        see("unix")
        client.close()
        os.mkfifo("fifo")
        fifo = os.open("fifo", os.O_RDWR)
        see("fifo")
        os.close(fifo)
        see("nothing more")
        """,
        tmp_path,
    )
    harmful = {kind for kind, found in seen.items() if any(harm for _, harm in found)}
    assert harmful == {"queue", "pipe", "connection", "unix", "fifo"}
    assert [kind for kind, found in seen.items() if not found] == ["nothing more"]


def test_what_does_not_count(tmp_path: Path) -> None:
    seen = look_in(
        """
        import multiprocessing, os, socket, time
        from hsm import LocalComputeSource
        file = open(__file__), open("written", "w")
        copies = os.dup(0), os.dup(1), os.dup(2)
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        lock = multiprocessing.Lock()
        see("files and locks")
        if __name__ == "__main__":
            process = multiprocessing.Process(target=time.sleep, args=(60,))
            process.start()
            see("a process")
            process.kill(), process.join()
            with multiprocessing.Manager() as manager:
                shared = manager.dict(x=1)
                assert shared["x"] == 1
                see("a manager")
        """,
        tmp_path,
    )
    assert set(map(tuple, seen.values())) == {()}


def test_what_the_process_was_started_with_does_not_count(tmp_path: Path) -> None:
    reads, writes = os.pipe()  # like make's jobserver
    pair = os.pipe()
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from hsm.core.local.fork_safety.start_method import look; print(look())",
            ],
            cwd=SOURCE,
            stdin=pair[0],
            stdout=subprocess.PIPE,
            pass_fds=(reads, writes),
            check=True,
            timeout=60,
        )
    finally:
        for fd in (reads, writes, *pair):
            os.close(fd)
    assert done.stdout.strip() == b"[]"

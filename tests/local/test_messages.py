"""Messages between a launcher and a keeper that come together, or in pieces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import PATIENCE, wait_for
from hsm.core.engine.backend import Launch
from hsm.core.local.processes.messages import Channel, send_descriptors
from hsm.core.local.processes.process_tree import is_stopped
from hsm.core.local.processes.server_client import ForkServer
from hsm.core.record.paths import SweepPaths


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    first, second = map(Channel, socket.socketpair())
    yield first, second
    first.close()
    second.close()


def test_messages_that_come_together_are_received_one_by_one(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = ends
    sent: list[Any] = ["one", {"two": 2}, b"3" * 300_000, None]
    for message in sent[:2]:
        ours.send(message)
    assert theirs.wait(time.monotonic() + PATIENCE)
    assert theirs.receive() == sent[0]
    assert theirs.wait(time.monotonic())  # without another byte from the socket
    assert theirs.receive() == sent[1]
    assert not theirs.wait(time.monotonic())
    for message in sent[2:]:
        ours.send(message)
    pump = threading.Thread(target=ours.wait, args=(time.monotonic() + PATIENCE,))
    pump.start()
    assert [theirs.receive(), theirs.receive()] == sent[2:]
    theirs.close()
    pump.join()
    with pytest.raises(EOFError):
        ours.receive()


def test_descriptors_for_one_who_does_not_read_are_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, suppress(BlockingIOError):
        for _ in range(100_000):
            send_descriptors(ours, b"k", [theirs.fileno()])
        pytest.fail("this end never was full")


def test_descriptors_for_one_who_has_gone_are_no_signal() -> None:
    program = (
        "import signal, socket\n"
        "from hsm.core.local.processes.messages import send_descriptors\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "ours, theirs = socket.socketpair()\n"
        "theirs.close()\n"
        "try:\n"
        "    send_descriptors(ours, b'k', [2])\n"
        "except BrokenPipeError:\n"
        "    print('gone')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    assert ran.stdout == b"gone\n"


def test_a_connection_that_ends_within_a_message_has_ended(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours._sock.send(b"\0" * 7 + b"\x09" + b"half")
    ours.shut()
    assert not theirs.has_message
    with pytest.raises(EOFError):
        theirs.receive()


def test_an_end_that_comes_with_the_launch_ends_the_job(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    stdout, stderr, result = paths.attempt_files(0, 1)
    launch = Launch(
        *(0, {}, str(tmp_path), stdout, stderr, str(tmp_path)),
        *(("sleep", "1000"), None, result, 1.0),
    )
    server = ForkServer.start_clean(None, 1024)
    try:
        slot = server.slot()
        assert slot.keeper is not None
        os.kill(slot.keeper, signal.SIGSTOP)
        wait_for(lambda: is_stopped(psutil.Process(slot.keeper)), "its stop")
        slot.start(launch)
        slot.end(0.0)  # continues it, when both messages are there
        assert slot.started().pid is not None
        ended = slot.ended(time.monotonic() + PATIENCE)
        assert ended is not None
        assert (os.waitstatus_to_exitcode(ended.status), ended.asked) == (-signal.SIGKILL, True)
        server.give_back(slot)
    finally:
        server.close()

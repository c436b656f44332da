"""Ports of jobs: free, each job's own, and those of other launchers last."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sweeps import PROFILE
from hsm.core.gpu.ports import FIRST, LAST, NoPort, Ports, is_free


def always(port: int) -> bool:
    return True


def test_each_running_job_has_its_own() -> None:
    ports = Ports(7, always)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: ports.take(), range(200)))
    assert len(set(taken)) == 200
    assert all(FIRST <= port <= LAST for port in taken)


def test_a_port_that_was_given_back_comes_late() -> None:
    ports = Ports(7, always)
    first = ports.take()
    ports.give_back(first)
    ports.give_back(first)
    following = [ports.take() for _ in range(32)]
    assert following[-1] == first
    assert len(set(following)) == 32


def test_what_somebody_uses_is_passed_over() -> None:
    port = Ports(7, always).take()
    assert Ports(7, lambda each: each != port).take() != port
    assert Ports(7, lambda each: each == LAST).take() == LAST


def test_all_in_use() -> None:
    ports = Ports(7, lambda each: each == FIRST)
    assert ports.take() == FIRST
    with pytest.raises(NoPort, match=f"no TCP port from {FIRST} to {LAST} is free"):
        ports.take()
    ports.give_back(FIRST)
    assert ports.take() == FIRST


@settings(PROFILE, max_examples=50)
@given(st.integers(1, 1 << 22), st.integers(1, 400))
def test_launchers_of_near_pids_begin_apart(pid: int, distance: int) -> None:
    one, other = Ports(pid, always), Ports(pid + distance, always)
    assert {one.take() for _ in range(32)} & {other.take() for _ in range(32)} == set()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_is_not_free_while_somebody_listens(address: str) -> None:
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        assert not is_free(listener.getsockname()[1])


def test_a_port_that_was_taken_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", Ports().take()))
        listener.listen()


def test_ports_of_the_system_are_not_given() -> None:
    assert FIRST > 1024
    assert LAST < 30000  # where Kubernetes' services begin; outgoing connections have 32768 and up

"""Whose a process is that a driver names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.gpus import grant, reading
from helpers.processes import wait_for
from hsm.core.gpu import gpu_view, own_processes
from hsm.core.gpu.gpu_view import drawn, holders
from hsm.core.gpu.own_processes import Owner, drivers_pids_are_ours, owner, process_words
from hsm.core.gpu.probe import GpuProcess

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

#: A child, and below it a child of its own and a daemon: it prints their pids, and stays.
_TREE = """
sleep 60 & echo $!
daemon=$(setsid sh -c 'sleep 60 > /dev/null & echo $!')
echo $daemon
read -r line
kill 0
"""


class Tree:
    """A child of this process and what is below it."""

    def __init__(self) -> None:
        self.top = subprocess.Popen(
            ["sh", "-c", _TREE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.top.stdout is not None
        self.child, self.daemon = (int(self.top.stdout.readline()) for _ in range(2))


@pytest.fixture
def tree() -> Iterator[Tree]:
    tree = Tree()
    yield tree
    for pid in (tree.child, tree.daemon):
        os.kill(pid, 9)
    tree.top.communicate()


def test_what_descends_from_the_launcher_is_ours(tree: Tree) -> None:
    own = Owner(is_here=True, is_ours=True)
    # The daemon is a child of this process now, as it would be of a job's keeper.
    assert [owner(pid, ()) for pid in (os.getpid(), tree.top.pid, tree.child, tree.daemon)] == [
        own
    ] * 4
    assert owner(tree.child, (), launcher=tree.top.pid) == own
    foreign = Owner(is_here=True)
    assert owner(tree.daemon, (), launcher=tree.top.pid) == foreign
    assert [owner(pid, ()) for pid in (1, os.getppid())] == [foreign] * 2


def test_a_process_belongs_to_the_nearest_root(tree: Tree) -> None:
    top, child = tree.top.pid, tree.child
    assert owner(child, {top}) == Owner(True, True, top)
    assert owner(child, {top, child}) == Owner(True, True, child)
    assert owner(top, {child}) == Owner(True, True, None)
    # A job of a launcher that cannot be seen is one all the same.
    assert owner(child, {top}, launcher=1 << 22) == Owner(True, True, top)


@pytest.mark.parametrize("pid", [0, -1, 1 << 30, 1 << 62])
def test_there_is_no_such_process(pid: int) -> None:
    assert owner(pid, ()) == Owner(is_here=False)
    assert process_words(pid) == f"pid {pid}"


def test_a_process_is_called_by_its_pid_and_its_name(tree: Tree) -> None:
    wait_for(lambda: process_words(tree.child) == f"pid {tree.child} (sleep)", "exec")


def test_elsewhere_pids_are_not_those_that_drivers_know(monkeypatch: pytest.MonkeyPatch) -> None:
    inode = os.stat("/proc/self/ns/pid").st_ino
    monkeypatch.setattr(own_processes, "_FIRST_NAMESPACE", inode)
    assert drivers_pids_are_ours()
    monkeypatch.setattr(own_processes, "_FIRST_NAMESPACE", inode + 1)
    assert not drivers_pids_are_ours()


def test_a_gpus_processes_have_owners(tree: Tree) -> None:
    job = grant(3, 0, root=tree.top.pid)
    ours, theirs, ended = GpuProcess(tree.child, 5), GpuProcess(1), GpuProcess(1 << 30, 7)
    read = reading(0, processes=(ours, theirs, ended))
    found = [(ours, job, True), (theirs, None, False)]
    assert list(holders(read, [job], ())) == found
    # The driver still names it, a look later: something of it is there.
    assert list(holders(read, [job], {ended.pid})) == [*found, (ended, None, False)]


def test_what_others_draw_is_counted(tree: Tree) -> None:
    ours, theirs, unknown = GpuProcess(tree.child, 5), GpuProcess(1, 7), GpuProcess(1 << 30)
    assert drawn(reading(0, drawing=(ours, theirs, unknown))) == 7


def test_the_multi_process_service_computes_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_view, "owner", lambda pid, roots: Owner(is_here=True))
    program = tmp_path / "nvidia-cuda-mps-server"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as service:
        name = Path(f"/proc/{service.pid}/comm")
        wait_for(lambda: name.read_text().startswith("nvidia-cuda-mps"), "exec")
        other = GpuProcess(os.getpid(), 5)
        read = reading(0, processes=(GpuProcess(service.pid, 30), other))
        assert [holder.process for holder in holders(read, (), ())] == [other]
        service.kill()

"""How many CPUs a sweep has, and how many jobs that makes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import wait_for
from helpers.reliability import journal_events, points, source
from hsm.core.errors import SettingsError
from hsm.core.local import available_cpus, machine, places
from hsm.core.local.available_cpus import cpu_quota, usable_cpus
from hsm.core.local.places import with_places
from hsm.core.settings.resolve import LocalConf, resolve_local

V1 = "4:memory:/jobs\n3:cpu,cpuacct:/jobs/a\n1:name=systemd:/jobs/a\n"


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"": "200000 100000\n"}, 2.0),
        ("0::/\n", {"": "max 100000\n"}, None),
        ("0::/pod/me\n", {"pod/me": "150000 100000\n", "pod": "max 100000\n"}, 1.5),
        ("0::/pod/me\n", {"pod/me": "max 100000\n", "pod": "300000 100000\n"}, 3.0),
        ("0::/pod/me\n", {"pod/me": "400000 100000\n", "pod": "300000 100000\n"}, 3.0),
        # A container that sees only its own group, and in /proc the path that the host sees.
        ("0::/docker/4f/me\n", {"": "50000 100000\n"}, 0.5),
        ("0::/\n", {"": "what is this\n"}, None),
        ("0::/\n", {"": "100000 0\n"}, None),
    ],
)
def test_the_quota_of_cgroups_v2(
    tmp_path: Path, own: str, files: dict[str, str], quota: float | None
) -> None:
    root = machine_with(tmp_path, own, {f"{group}/cpu.max": text for group, text in files.items()})
    assert cpu_quota(root) == quota


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("group", "quota"), [("jobs/a", 2.5), ("jobs", 2.5), ("", 2.5)])
def test_the_quota_of_cgroups_v1(tmp_path: Path, mount: str, group: str, quota: float) -> None:
    files = {
        f"{mount}/{group}/cpu.cfs_quota_us": "250000\n",
        f"{mount}/{group}/cpu.cfs_period_us": "100000\n",
        "memory/jobs/cpu.max": "1 100000\n",  # of another controller
    }
    assert cpu_quota(machine_with(tmp_path, V1, files)) == quota


def test_no_quota_of_cgroups_v1(tmp_path: Path) -> None:
    files = {"cpu/jobs/a/cpu.cfs_quota_us": "-1\n", "cpu/jobs/a/cpu.cfs_period_us": "100000\n"}
    assert cpu_quota(machine_with(tmp_path, V1, files)) is None
    assert cpu_quota(tmp_path / "without proc") is None


def machine_with(root: Path, own: str, files: dict[str, str]) -> Path:
    """The root of a machine with these control groups, of which a process is in `own`."""
    texts = {"proc/self/cgroup": own, **{f"sys/fs/cgroup/{name}": t for name, t in files.items()}}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("usable", "quota", "available"),
    [(8, None, 8), (8, 2.5, 2), (8, 0.5, 1), (2, 16.0, 2), (1, None, 1)],
)
def test_available_is_the_smaller_of_the_two(
    monkeypatch: pytest.MonkeyPatch, usable: int, quota: float | None, available: int
) -> None:
    monkeypatch.setattr(available_cpus, "usable_cpus", lambda: list(range(usable)))
    monkeypatch.setattr(available_cpus, "cpu_quota", lambda: quota)
    assert available_cpus.available_cpus() == available


@pytest.mark.skipif(sys.platform != "linux", reason="no other system ties processes to CPUs")
def test_the_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cpus() == [min(before)]
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("settings", "jobs"),
    [
        ({}, 4),
        ({"max_parallel_jobs": 40}, 40),
        ({"max_parallel_jobs": "auto"}, 16),
        ({"max_parallel_jobs": "auto", "cpus": None}, 16),
        ({"max_parallel_jobs": "auto", "cpus": 3}, 5),
        ({"max_parallel_jobs": "auto", "cpus": 16}, 1),
        ({"cpus": 3}, 4),
        ({"cpus": 6}, 2),
        ({"cpus": 40}, 1),  # which `check_machine` refuses
        ({"max_parallel_jobs": 40, "cpus": None}, 40),
        ({"max_parallel_jobs": 40, "cpu_affinity": "share"}, 16),
        ({"max_parallel_jobs": 40, "cpu_affinity": "share", "cpus": 4}, 4),
    ],
)
def test_how_many_jobs_run_at_once_on_16_cpus(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], jobs: int
) -> None:
    monkeypatch.setattr(places, "available_cpus", lambda: 16)
    conf = resolve_local(settings).conf
    assert with_places(conf) == LocalConf(**{**vars(conf), "max_parallel_jobs": jobs})


def test_more_cpus_than_there_are_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cpus", lambda: 2)
    with pytest.raises(SettingsError) as error, source(cpus=3):
        pass
    assert str(error.value) == "cpus=3 exceeds the 2 CPUs that are available here"


def test_auto_is_a_number_for_the_source_and_stays_auto_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "available_cpus", lambda: 3)
    with source(max_parallel_jobs="auto") as made:
        assert made.conf.max_parallel_jobs == 3
        command = ["sh", "-c", f"touch {tmp_path}/up.{{x}}; cat {tmp_path}/go.{{x}}"]
        for x in range(3):
            os.mkfifo(tmp_path / f"go.{x}")
        made.submit_jobs(points(0, 1, 2), "s", tmp_path / "sweep", command=command)
        wait_for(lambda: len(list(tmp_path.glob("up.*"))) == 3, "three jobs at once")
        for x in range(3):
            (tmp_path / f"go.{x}").write_text("")
    recorded = journal_events(tmp_path / "sweep")[0]["settings"]
    assert (recorded["max_parallel_jobs"], recorded["cpus"]) == ("auto", "auto")

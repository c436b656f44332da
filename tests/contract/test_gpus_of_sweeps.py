"""Jobs at a place that gives them GPUs: what points need, and other GPUs while they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract_support import Recorder, journal_events, points, states
from helpers.processes import wait_for
from hsm import read_sweep
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import HsmError, SettingsError
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.locks import GpuLocks
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.pool import GpuPool
from hsm.core.gpu.visible import FoundGpus
from hsm.core.local.places import with_places
from hsm.core.settings.resolve import HsmConfig, LocalConf, resolve_local
from plain_backend import PlainBackend

GIB = 1 << 30
_WAITS = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done"]


@dataclass
class GpuPlace:
    """A place with four GPUs.

    Attributes:
        source: runs jobs there.
        told: what people are told.
    """

    source: SweepSource
    told: Recorder

    def needs(self) -> list[GpuNeed | None]:
        return [handle.gpu_need for handle in self.source._ledger.all()]

    def gpus_of(self, num: int) -> list[int | str]:
        """The GPUs that a running job has."""
        handle = next(each for each in self.source._ledger.all() if each.job.num == num)
        grant = wait_for(lambda: handle.grant, "its GPUs")
        assert grant is not None
        return [gpu.id for gpu in grant.gpus]

    def runs(self, *nums: int) -> None:
        """Wait until these jobs run, and no others."""
        wait_for(
            lambda: [job.num for job in self.source.running()] == list(nums), f"jobs {nums} to run"
        )


@contextmanager
def gpu_place(**settings: Any) -> Iterator[GpuPlace]:
    asked = resolve_local({"gpus": 1, **settings}, environ={}, hsm_config=HsmConfig()).conf
    found = tuple(Gpu(str(index), index=index, memory=24 * GIB) for index in range(4))

    def choose(ids: Sequence[int | str]) -> list[Gpu]:
        chosen = [gpu for gpu in found if gpu.index in ids]
        if len(chosen) < len(ids):
            raise SettingsError("gpu_ids", ids, "settings", "GPUs that are there")
        return chosen

    backend = PlacedBackend(asked)
    backend.gpus = GpuPool(FoundGpus(found), asked, locks=GpuLocks(Path("locks")), choose=choose)
    told = Recorder()
    conf = with_places(asked, backend.gpus.allowed)
    with SweepSource(backend, conf, asked=asked, observers=[told]) as source:
        yield GpuPlace(source, told)


class PlacedBackend(PlainBackend):
    """One that runs as many jobs at once as there are places for."""

    def __init__(self, conf: LocalConf) -> None:
        super().__init__()
        self._conf = conf

    def allow(self, jobs: int | str) -> int:
        assert self.gpus is not None
        asked = LocalConf(**{**vars(self._conf), "max_parallel_jobs": jobs})
        return int(with_places(asked, self.gpus.allowed).max_parallel_jobs)

    def close(self) -> None:
        super().close()
        if self.gpus is not None:
            self.gpus.close()


# --- points -------------------------------------------------------------------------------------


def test_points_have_needs_of_their_own_and_equal_ones_are_one_object() -> None:
    given: list[dict[str, Any]] = [
        {"x": 0},
        {"x": 1, "_needs_": {"gpus": 2, "licence": 1}},
        {"x": 2, "_needs_": "gpus=0.5"},
        {"x": 3, "_needs_": {"gpus": 0}},
        {"x": 4, "_needs_": {"gpu_memory": "10GiB"}},
        {"x": 5, "_needs_": {"licence": 1}},
        {"x": 6, "_needs_": {"gpus": 0.5}},
    ]
    with gpu_place(resources={"licence": 1}) as place:
        ids = place.source.submit_jobs(given, "s", "s", command="true")
        found = place.needs()
        assert states(place.source) == ["COMPLETED"] * 7
        countable = [dict(handle.needs) for handle in place.source._ledger.all()]
        assert all("_needs_" not in place.source.job(job_id).params for job_id in ids)
    by_memory = GpuNeed(share=0.0, memory=10 * GIB)
    share = GpuNeed(share=0.5)
    assert found == [GpuNeed(), GpuNeed(count=2), share, None, by_memory, GpuNeed(), share]
    assert found[0] is found[5]
    assert found[2] is found[6]
    assert countable == [{}, {"licence": 1}, {}, {}, {}, {"licence": 1}, {}]


def test_the_record_has_them_and_a_resumed_sweep_needs_the_same() -> None:
    given: list[dict[str, Any]] = [
        {"x": 0, "_needs_": {"gpus": 0.5, "gpu_memory": "10GiB"}},
        {"x": 1},
    ]
    with gpu_place() as place:
        place.source.submit_jobs(given, "s", "s", command="false")
        assert states(place.source) == ["FAILED"] * 2
    submit = next(event for event in journal_events("s") if event["event"] == "submit")
    own = {"gpus": 0.5, "gpu_memory": 10 * GIB}
    assert [entry.get("needs") for entry in submit["jobs"]] == [own, None]
    sweep = read_sweep("s")
    assert sweep.problems == []
    assert [sweep.jobs.needs_of(num) for num in (0, 1)] == [own, None]
    recorded: list[dict[str, Any]] = [{"x": 0, "_needs_": sweep.jobs.needs_of(0)}, {"x": 1}]
    with gpu_place(resume=True) as place:
        place.source.submit_jobs(recorded, "s", "s", command="false")
        assert place.needs() == [GpuNeed(share=0.5, memory=10 * GIB), GpuNeed()]
        assert states(place.source) == ["FAILED"] * 2


@pytest.mark.parametrize(
    ("needs", "settings", "said"),
    [
        ({"gpus": 5}, {}, "_needs_ of point 1: a job cannot have 5 GPUs: there are 4 for it"),
        ({"gpus": 3}, {"gpu_ids": [0, 2]}, "a job cannot have 3 GPUs: there are 2 for it"),
        ({"gpu_memory": "30GiB"}, {}, "_needs_ of point 1: a job cannot have 30 GiB of a GPU"),
        ({"gpus": 1.5}, {}, "a share is of one GPU"),
    ],
)
def test_points_that_no_gpu_can_run_are_refused_before_anything_is_written(
    needs: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    given: list[dict[str, Any]] = [{"x": 0}, {"x": 1, "_needs_": needs}]
    with gpu_place(**settings) as place, pytest.raises(SettingsError) as caught:
        place.source.submit_jobs(given, "s", "s", command="true")
    assert said in str(caught.value)
    assert not Path("s").exists()


@pytest.mark.parametrize("settings", [{"gpus": None}, {"gpus": 0}])
def test_points_of_a_sweep_without_gpus_get_none(settings: dict[str, Any]) -> None:
    conf = resolve_local(settings, environ={}, hsm_config=HsmConfig()).conf
    with SweepSource(PlainBackend(), conf) as source, pytest.raises(SettingsError) as caught:
        source.submit_jobs([{"x": 0, "_needs_": {"gpus": 2}}], "s", "s", command="true")
    assert "gpus needs a sweep that gives jobs GPUs" in str(caught.value)
    assert not Path("s").exists()


# --- other GPUs while jobs run -----------------------------------------------------------------


def test_other_gpus_are_for_the_jobs_that_start_and_are_recorded() -> None:
    with gpu_place(gpu_ids=[0]) as place:
        place.source.submit_jobs(points(0, 1, 2), "s", "s", command=_WAITS)
        place.runs(0)
        assert place.gpus_of(0) == [0]
        place.source.change(gpu_ids=[1, 3])
        place.runs(0, 1)
        assert place.gpus_of(1) in ([1], [3])
        place.source.change(gpu_ids=None)
        place.runs(0, 1, 2)
        with pytest.raises(SettingsError):
            place.source.change(gpu_ids=[7], max_retries=3)
        Path("go").touch()
        assert states(place.source) == ["COMPLETED"] * 3
    asked = [event for event in journal_events("s") if event["event"] == "control"]
    assert [event["gpu_ids"] for event in asked] == [[1, 3], None]
    assert [line for line in place.told.messages if "for jobs that start" in line] == [
        "GPUs 1, 3 for jobs that start from now on",
        "all GPUs for jobs that start from now on",
    ]


def test_gpus_that_are_too_few_for_a_job_that_waits_are_refused() -> None:
    with gpu_place(gpus=2, gpu_ids=[0, 1]) as place:
        place.source.submit_jobs(points(0, 1), "s", "s", command=_WAITS)
        place.runs(0)
        said = "gpu_ids=3 is too little for jobs that wait: a job cannot have 2 GPUs: there is 1"
        with pytest.raises(SettingsError, match=said):
            place.source.change(gpu_ids=[3])
        place.source.change(gpu_ids=[0, 1, 2, 3])
        place.runs(0, 1)
        place.source.change(gpu_ids=[3])  # No job waits that would need more.
        Path("go").touch()
        assert states(place.source) == ["COMPLETED"] * 2
    asked = [event for event in journal_events("s") if event["event"] == "control"]
    assert [event["gpu_ids"] for event in asked] == [[0, 1, 2, 3], [3]]


def test_an_upper_bound_that_somebody_has_set_stays() -> None:
    with gpu_place(gpu_ids=[0], max_parallel_jobs=2) as place:
        place.source.submit_jobs(points(0, 1, 2), "s", "s", command=_WAITS)
        place.runs(0)
        place.source.change(gpu_ids=None)
        place.runs(0, 1)
        assert place.source.places == 2
        Path("go").touch()
        assert states(place.source) == ["COMPLETED"] * 3


def test_what_was_set_holds_when_the_sweep_is_resumed() -> None:
    with gpu_place() as place:
        place.source.submit_jobs(points(0), "s", "s", command="false")
        place.source.change(gpu_ids=[2])
        assert states(place.source) == ["FAILED"]
    with gpu_place(resume=True, accept_changes=True) as place:
        place.source.named = ["gpus", "resume", "accept_changes"]
        place.source.submit_jobs(points(0), "s", "s", command=_WAITS)
        place.runs(0)
        assert place.gpus_of(0) == [2]
        Path("go").touch()
        assert states(place.source) == ["COMPLETED"]
    assert read_sweep("s").asked.changes == {"gpu_ids": (2,)}


def test_what_cannot_hold_any_more_is_told_and_the_rest_holds() -> None:
    with gpu_place() as place:
        place.source.submit_jobs(points(0), "s", "s", command="false")
        place.source.change(gpu_ids=[2], max_retries=1)
        assert states(place.source) == ["FAILED"]
    told = Recorder()
    settings = {"resume": True, "retry_delay": 0, "max_parallel_jobs": 1}
    conf = resolve_local(settings, environ={}, hsm_config=HsmConfig()).conf
    with SweepSource(PlainBackend(), conf, observers=[told]) as source:
        source.named = list(settings)
        source.submit_jobs(points(0), "s", "s", command="false")
        assert states(source) == ["FAILED"]
    assert told.delays == [0.0]
    assert [line for line in told.messages if "before" in line] == [
        "not as it was changed before: hsm gives the jobs of this sweep no GPUs: gpus was not set "
        "for it"
    ]


def test_a_sweep_without_gpus_has_none_to_choose_from() -> None:
    with SweepSource(PlainBackend(), resolve_local({"max_parallel_jobs": 1}).conf) as source:
        source.submit_jobs(points(0), "s", "s", command="true")
        with pytest.raises(HsmError) as caught:
            source.change(gpu_ids=[0])
        assert states(source) == ["COMPLETED"]
    assert str(caught.value) == "hsm gives the jobs of this sweep no GPUs: gpus was not set for it"
    assert [event for event in journal_events("s") if event["event"] == "control"] == []

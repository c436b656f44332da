"""What a sweep's end says of GPU memory: how many jobs would fit on a GPU, or that they did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.written_sweeps import Sweeps
from hsm.core.record.gpu_facts import RecordedGpu
from hsm.core.record.job import JobState
from hsm.core.record.sweep import read_sweep
from hsm.display.counts import Counts
from hsm.display.gpu_hint import gpu_hint
from hsm.display.summary import Shown, summary

GIB = 1 << 30
FOUR = [RecordedGpu(num, "NVIDIA RTX A5000", 24 * GIB) for num in range(4)]
TWO_MODELS = [*FOUR[:3], RecordedGpu(3, "NVIDIA T4", 15 * GIB)]
UNKNOWN = [*FOUR[:3], RecordedGpu(3)]


def hint(
    folder: Path,
    *peaks: float | None,
    found: Any = FOUR,
    gpus: float | None = 1,
    on: tuple[int, ...] = (0,),
    **settings: Any,
) -> str:
    """The hint for jobs that completed with these peaks, in GiB."""
    sweep = Sweeps(folder, found=found, gpus=gpus, **settings)
    sweep.submit(*({"x": num} for num in range(len(peaks))))
    for num, peak in enumerate(peaks):
        size = None if peak is None else int(peak * GIB)
        sweep.end(num, exit_code=0, gpus=list(on), gpu_memory=size)
    sweep.journal.close("finished")
    return gpu_hint(sweep.read())


def test_more_jobs_would_have_fitted(tmp_path: Path) -> None:
    told = hint(tmp_path, 1, 6, 2, 2, 2)
    assert told == "GPU memory: at most 6.0 GiB of 24 GiB was used: gpus=0.33 would run 3 on each"


@pytest.mark.parametrize(
    ("peak", "count", "share"),
    [
        (10.6, 2, "0.5"),
        (10.7, 1, ""),  # 11.75 GiB with the margin: two of these and 512 MiB are too much
        (5.2, 4, "0.25"),
        (3.5, 5, "0.2"),
        (3.2, 6, "0.16"),
        (0.1, 16, "0.06"),
    ],
)
def test_with_a_margin_of_a_tenth(tmp_path: Path, peak: float, count: int, share: str) -> None:
    told = hint(tmp_path, *[peak] * 20)
    if count == 1:
        assert told == ""
    else:
        assert told.endswith(f" was used: gpus={share} would run {count} on each")
        assert int(1 / float(share) + 1e-9) == count


@pytest.mark.parametrize("gpus", [0.5, 0.34])
def test_those_that_share_already_may_be_more(tmp_path: Path, gpus: float) -> None:
    assert "gpus=0.33 would run 3" in hint(tmp_path, *[6] * 9, gpus=gpus)


def test_those_that_are_counted_by_memory_may_ask_for_less(tmp_path: Path) -> None:
    told = hint(tmp_path, *[6] * 9, gpus=None, gpu_memory=11 * GIB)
    assert told.endswith(": gpu_memory=6.75GiB would run 3 on each")


@pytest.mark.parametrize(
    ("peaks", "settings"),
    [
        ((6, 6, 6, 6), {}),  # as many jobs as GPUs
        ((6, 6, None, None, None), {}),  # too few are known
        ((None,) * 5, {}),
        ((0,) * 5, {}),  # They have used none.
        ((6,) * 9, {"gpus": 0.33}),
        ((6,) * 9, {"gpus": None, "gpu_memory": 7 * GIB}),
        ((6,) * 9, {"gpus": 2, "on": (0, 1)}),  # A share never spans GPUs.
        ((6,) * 9, {"found": UNKNOWN}),
        ((6,) * 9, {"found": ()}),
        ((23,) * 9, {}),
        ((23.9,) * 9, {}),
        ((99,) * 9, {}),
        ((), {}),
    ],
)
def test_nothing_is_said_that_is_not_known_or_would_not_help(
    tmp_path: Path, peaks: tuple[float | None, ...], settings: dict[str, Any]
) -> None:
    assert hint(tmp_path, *peaks, **settings) == ""


def test_three_completed_jobs_are_enough_and_so_are_all_of_fewer(tmp_path: Path) -> None:
    assert hint(tmp_path / "a", 6, 6, 6, None, None)
    assert hint(tmp_path / "b", 6, 6, found=FOUR[:1])
    assert not hint(tmp_path / "c", 6, None, found=FOUR[:1])


def test_of_several_models_the_smallest_counts(tmp_path: Path) -> None:
    told = hint(tmp_path, *[6] * 9, found=TWO_MODELS)
    used = "at most 6.0 GiB of the smallest GPU's 15 GiB was used"
    assert told == f"GPU memory: {used}: gpus=0.5 would run 2 on each"


def test_a_sweep_that_goes_on_has_no_hint(tmp_path: Path) -> None:
    sweep = Sweeps(tmp_path, found=FOUR, gpus=1)
    sweep.submit(*({"x": num} for num in range(9)))
    for num in range(8):
        sweep.end(num, gpus=[0], gpu_memory=GIB)
    assert gpu_hint(sweep.read()) == ""
    sweep.end(8, gpus=[0], gpu_memory=GIB)
    assert "would run 16" in gpu_hint(sweep.read())
    sweep.journal.close("finished")


OUT = {"reason": "out of GPU memory: CUDA out of memory, beside job 3"}


@pytest.mark.parametrize(
    ("settings", "peak", "told"),
    [
        ({"gpus": 0.5}, 8 * GIB, "set gpus=1, or gpu_memory=9GiB"),
        ({"gpus": 0.5}, None, "set gpus=1"),
        ({"gpus": None, "gpu_memory": 4 * GIB}, 8 * GIB, "set gpu_memory=9GiB"),
        ({"gpus": None, "gpu_memory": 4 * GIB}, None, "set gpu_memory=5GiB"),
    ],
)
def test_jobs_that_share_and_run_out(
    tmp_path: Path, settings: dict[str, Any], peak: int | None, told: str
) -> None:
    sweep = Sweeps(tmp_path, found=FOUR, **settings)
    sweep.submit(*({"x": num} for num in range(9)))
    for num in range(7):
        sweep.end(num, gpus=[0], gpu_memory=GIB if peak else None)
    # One fails for good, one completes when it is alone.
    sweep.end(7, JobState.OUT_OF_MEMORY, gpus=[0], gpu_memory=peak, **OUT)
    sweep.retry(8, [0], state=JobState.OUT_OF_MEMORY, gpu_memory=peak, **OUT)
    sweep.end(8, gpus=[0], gpu_memory=peak)
    sweep.journal.close("finished")
    assert gpu_hint(sweep.read()) == f"2 jobs ran out of GPU memory beside others: {told}"


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        (1, OUT["reason"]),  # It had the GPU to itself.
        (0.5, "out of memory: it used 5 GB, memory_limit is 4 GB"),
    ],
)
def test_what_sharing_does_not_explain(tmp_path: Path, gpus: float, reason: str) -> None:
    sweep = Sweeps(tmp_path, found=FOUR, gpus=gpus)
    sweep.submit({"x": 0})
    sweep.end(0, JobState.OUT_OF_MEMORY, gpus=[0], reason=reason)
    sweep.journal.close("finished")
    assert gpu_hint(sweep.read()) == ""


@pytest.mark.parametrize("width", [80, 60])
def test_the_summary_has_the_hint_before_where_to_look(tmp_path: Path, width: int) -> None:
    hint(tmp_path, *[6] * 9)
    sweep = read_sweep(tmp_path, alive=False)
    counts = Counts()
    counts.read(sweep.jobs, 100.0)
    lines = summary(counts, sweep.paths, 103.0, Shown("demo", width), sweep)
    at = next(at for at, line in enumerate(lines) if line.startswith("GPU memory: "))
    assert lines[at + 1].startswith("table: ")
    assert len(lines[at]) <= width
    assert lines[at].endswith("would run 3 on each") == (width == 80)


def test_a_hostile_record_gives_no_hint_and_no_error(tmp_path: Path) -> None:
    hint(tmp_path, *[6] * 9)
    sweep = read_sweep(tmp_path, alive=False)
    odd = (
        [{"id": 0, "memory": -1}],
        [{"id": 0, "memory": True}],
        [{"id": 0, "memory": 1}],
        [{"id": None}, {}],
        [{"id": [1]}],
    )
    for entries in odd:
        sweep.latest = {"gpus": entries, "settings": {"gpus": "many", "gpu_memory": "much"}}
        assert gpu_hint(sweep) == ""
    sweep.latest = {"gpus": [{"id": 0, "memory": 24 * GIB}], "settings": {"gpus": float("nan")}}
    assert "gpus=0.33" in gpu_hint(sweep)

"""Number 5, as a property: whatever a job is given, returns or raises is read as what it was."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.sweeps import PROFILE
from hsm import collect_results, read_sweep
from hsm.core.plain_json import as_json, is_flat, json_value
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Resumption

pytestmark = pytest.mark.thorough

LONGEST = 64 << 10
TEXTS = st.text(max_size=20)  # lone surrogates and NULs among them
LARGE_TEXTS = st.builds(lambda text, times: text * times, TEXTS, st.sampled_from([1, 900, 9000]))
SMALL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)
VALUES = SMALL | LARGE_TEXTS | st.builds(lambda item: {"of": [item] * 3000}, SMALL)
PARAMS = st.dictionaries(TEXTS, VALUES, max_size=3)


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hsm-values-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def recorded(path: Path, job: Job, ending: Ending) -> None:
    journal = Journal(SweepPaths(path), "demo", {})
    journal.submit([job])
    job.start(1.0, 42)
    job.end(2.0, ending)
    assert journal.start(job) == journal.end(job) == []
    journal.close("finished")
    lines = journal.paths.journal.read_bytes().splitlines(keepends=True)
    assert max(map(len, lines)) <= LONGEST


@pytest.mark.slow
@settings(PROFILE, max_examples=40)
@given(params=PARAMS, value=VALUES, label=LARGE_TEXTS, message=LARGE_TEXTS)
@example(params={"large": {"params": {"sha256": "0" * 64}}}, value=math.nan, label="", message="")
def test_any_value_and_any_text_come_back(
    params: dict[str, Any], value: Any, label: str, message: str
) -> None:
    with folder() as path:
        ending = Ending(JobState.COMPLETED, value=value, reason=message, error_message=message)
        recorded(path, Job(0, "demo_0", label, params), ending)
        sweep = read_sweep(path)
        job = sweep.jobs[0]
        assert job.outcome is not None
        assert repr((job.params, job.value)) == repr((params, value))
        assert job.outcome.whole("error_message") == job.outcome.whole("reason") == message
        whole_label = job.label if job.large_label is None else job.large_label.load()
        assert whole_label == label
        assert max(map(len, (job.label, job.outcome.reason or ""))) <= len(label) + 20_000
        [match] = Resumption(sweep, "all").match([params])
        assert (match.num, match.runs) == (0, True)
        results = collect_results(path)
        assert len(results) == 1
        if not isinstance(value, dict) and value is not None:
            assert repr(results[0]["value"]) == repr(value) or "value" in params
        assert results.to_csv()
        assert sweep.problems == []


@settings(PROFILE, max_examples=60)
@given(value=VALUES)
def test_what_is_taken_for_json_is_taken_as_it_is(value: Any) -> None:
    found = as_json(value)
    assert found is not None
    assert repr(found[0]) == repr(value)
    assert is_flat(value)


class Odd(dict[str, int]):
    pass


@pytest.mark.parametrize(
    "value",
    [{1: 2}, {"a": {None: 1}}, {True: 1}, (1, {2: 3}), b"x", {"x"}, object(), 10**5000, Odd(a=1)],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_or_refuse_stays_in_its_pickle(value: Any) -> None:
    if isinstance(value, Odd):
        assert json_value(value) == {"a": 1}
    else:
        assert json_value(value) is None

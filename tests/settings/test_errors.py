from __future__ import annotations

import dataclasses
import pickle

from hsm.core.errors import HsmError, SettingsError, UnknownSetting
from hsm.core.record.job import Job, JobFailed


def test_the_tree_of_errors() -> None:
    assert issubclass(SettingsError, (HsmError, ValueError))
    assert issubclass(SettingsError, ValueError)
    assert issubclass(UnknownSetting, SettingsError)
    assert issubclass(JobFailed, HsmError)


def test_a_settings_error_carries_its_data() -> None:
    error = SettingsError("colour", "blu", "line 3", "red or blue", "blue is near")
    assert str(error) == "line 3: 'blu' is refused, colour must be red or blue; blue is near"
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert vars(error) == {
        "key": "colour",
        "value": "blu",
        "origin": "line 3",
        "allowed": "red or blue",
        "hint": "blue is near",
    }


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    text = str(SettingsError("k", "a\nb" * 1000, "/odd\ndir\udcff", "x\u2028y"))
    assert text.isprintable()
    assert len(text) < 200
    assert "/odd\\ndir\\udcff" in text


def test_job_failed_tells_how_the_job_ended() -> None:
    job = Job(num=3, job_id="s-3", label="lr=0.1", params={"lr": 0.1})
    error = JobFailed(job)
    assert error.job is job
    assert str(error) == f"job 3 (lr=0.1) PENDING: {job.ending()}"
    assert str(JobFailed(dataclasses.replace(job, label=""))).startswith("job 3 PENDING: ")

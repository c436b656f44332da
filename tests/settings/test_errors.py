from __future__ import annotations

import pickle

import pytest

from hsm.core.errors import HsmError, SettingsError, UnknownSetting, did_you_mean
from hsm.core.record.job import Job, JobFailed


def test_the_tree_of_errors() -> None:
    assert issubclass(SettingsError, (HsmError, ValueError))
    assert issubclass(SettingsError, ValueError)
    assert issubclass(UnknownSetting, SettingsError)
    assert issubclass(JobFailed, HsmError)


def test_a_settings_error_carries_its_data() -> None:
    error = SettingsError("colour", "blu", "line 3", "red or blue", "blue is near")
    assert str(error) == "line 3: colour must be red or blue, not 'blu'; blue is near"
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert vars(error) == {
        "key": "colour",
        "value": "blu",
        "origin": "line 3",
        "allowed": "red or blue",
        "hint": "blue is near",
        "message": "",
    }


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        ("--colour", "--colour must be red, not 'blu'"),
        ("argument colour", "argument colour must be red, not 'blu'"),
        ("environment variable COLOUR", "environment variable COLOUR must be red, not 'blu'"),
        ("hydra.launcher.colour", "hydra.launcher.colour must be red, not 'blu'"),
        ("colour in /a b/c.yaml, line 3", "colour in /a b/c.yaml, line 3 must be red, not 'blu'"),
        ("/c in /d.yaml, line 3", "/c in /d.yaml, line 3: colour must be red, not 'blu'"),
        ("command line", "command line: colour must be red, not 'blu'"),
    ],
)
def test_an_origin_that_names_the_setting_is_the_subject(origin: str, text: str) -> None:
    assert str(SettingsError("colour", "blu", origin, "red")) == text


def test_a_settings_error_may_say_it_in_its_own_words() -> None:
    error = SettingsError("what jobs run", None, "run", "given", message="nothing to run")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "nothing to run"


@pytest.mark.parametrize(
    ("key", "origin", "text"),
    [
        ("colr", "local.colr in /x.yaml, line 2", "setting local.colr in /x.yaml, line 2"),
        ("colr", "s.yaml, line 2", "setting colr in s.yaml, line 2"),
        ("colr", "hydra.launcher.colr", "setting hydra.launcher.colr"),
        ("colr", "argument colr", "argument colr"),
        ("HSM_COLR", "environment variable HSM_COLR", "environment variable HSM_COLR"),
    ],
)
def test_an_unknown_setting_is_named_with_the_near_one(key: str, origin: str, text: str) -> None:
    error = UnknownSetting.among(key, "x", origin, ["colour", "size"], prefix="HSM_")
    assert str(error) == f"unknown {text}; did you mean colour?"
    error = UnknownSetting.among("zzz", "x", origin, ["colour", "size"])
    assert str(error).endswith("; known: colour, size")


def test_the_near_name() -> None:
    assert did_you_mean("TIMEOUT", ["time_out", "x"]) == "did you mean time_out?"
    assert did_you_mean("a_x", ["a_xy", "a_b"], prefix="a_") == "did you mean a_xy?"
    assert did_you_mean("s1", ["s2", "s3"], most=2, cutoff=0.5) == "did you mean s3 or s2?"
    assert did_you_mean("zzz", ["time_out"]) == did_you_mean("x", []) == ""


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
    assert str(JobFailed(Job(3, "s-3"))).startswith("job 3 PENDING: ")

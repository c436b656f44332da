"""The space that hydra.sweeper and the command line define, and the overrides of its points."""

from __future__ import annotations

from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from omegaconf import OmegaConf

from hsm.core.errors import SettingsError
from hsm.core.record.job import Job
from hsm.hydra_app.study_space import StudySpace


@pytest.fixture(scope="module")
def loader() -> ConfigLoader:
    return ConfigLoaderImpl(config_search_path=create_config_search_path(None))


def texts(loader: ConfigLoader, settings: Any, *arguments: str) -> dict[str, str]:
    return StudySpace(OmegaConf.create(settings), arguments, loader).space.texts()


def test_params_and_command_line(loader: ConfigLoader) -> None:
    params = {
        "x": "range(-5.5, 5.5, step=0.5)",
        "y": "choice(-5, 0, 5)",
        "lr": "tag(log, interval(1e-4, 1))",
        "n": "int(interval(1, 8))",
        "z": 3,
    }
    assert texts(loader, {"params": params}, "y=1", "k=range(3)") == {
        "x": "range from -5.5 to 5.0 by 0.5",
        "lr": "log interval from 0.0001 to 1.0",
        "n": "int interval from 1 to 8",
        "k": "int interval from 0 to 2",
        "z": "3",
        "y": "1",
    }


OLD = {
    "x": {"type": "float", "low": -5.5, "high": 5.5, "step": 0.5},
    "lr": {"type": "float", "low": 0.001, "high": 1, "log": True},
    "f": {"type": "float", "low": 0, "high": 1},
    "n": {"type": "int", "low": 1, "high": 9, "step": 4},
    "m": {"type": "int", "low": 1, "high": 9, "log": True},
    "k": {"type": "int", "low": 1, "high": 9},
    "y": {"type": "categorical", "choices": ["a", 1]},
}


def test_the_form_of_older_versions(loader: ConfigLoader, caplog: pytest.LogCaptureFixture) -> None:
    assert texts(loader, {"search_space": OLD}) == {
        "x": "range from -5.5 to 5.5 by 0.5",
        "lr": "log interval from 0.001 to 1.0",
        "f": "interval from 0.0 to 1.0",
        "n": "int range from 1 to 9 by 4",
        "m": "log int interval from 1 to 9",
        "k": "int interval from 1 to 9",
        "y": '["a",1]',
    }


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (3, r"search_space\.x"),
        ({"type": "nope"}, "int, float or categorical"),
        ({"type": "int", "low": 1}, "high"),
        ({"type": "float", "low": "a", "high": 1}, "low"),
        ({"type": "float", "low": 0, "high": 1, "step": "x"}, "step"),
        ({"type": "categorical"}, "choices"),
    ],
)
def test_what_is_wrong_in_it(loader: ConfigLoader, form: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        texts(loader, {"search_space": {"x": form}})


def test_params_win_over_it(loader: ConfigLoader) -> None:
    settings = {"search_space": {"x": OLD["x"]}, "params": {"y": "1,2"}}
    assert texts(loader, settings).keys() == {"y"}


def test_a_union_is_refused(loader: ConfigLoader) -> None:
    with pytest.raises(SettingsError, match="searches one space"):
        texts(loader, {"params": [{"x": "1,2"}, {"y": "1,2"}]})


def test_overrides_are_as_they_were_written(loader: ConfigLoader) -> None:
    written = ["s='a b','c'", "+w=interval(0,1)", "l=[1,2],[3]", "~z", "p=${x}", "q=null"]
    space = StudySpace({}, written, loader)
    point = {"s": "a b", "w": 0.5, "l": [3], "p": "${x}", "q": None}
    # As Hydra's own sweeper writes them.
    fixed = ["p=$\\{x\\}", "q=null", "~z"]
    assert space.overrides(point) == ["s='a b'", "+w=0.5", "l=[3]", *fixed]
    assert space.fixed() == fixed


def test_a_key_that_a_function_has_added_gets_its_plus_again(loader: ConfigLoader) -> None:
    space = StudySpace({}, ["x=interval(0,1)", "~z"], loader)
    asked = {"x": 0.5, "+v": 0.25, "u": 1}
    texts = space.overrides(asked)
    assert texts == ["x=0.5", "+v=0.25", "u=1", "~z"]
    recorded = {"x": 0.5, "v": 0.25, "u": 1, "~z": None}
    earlier = Job(3, "s_3", " ".join(texts), recorded)
    assert space.overrides(recorded, earlier) == texts

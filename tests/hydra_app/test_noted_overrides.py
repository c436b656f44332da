"""Overrides are parsed and noted quickly: with the results, and the errors, of Hydra's own code."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import ListConfig, StringNode

from helpers.composing import Composers
from hsm.hydra_app import quick_appends
from hsm.hydra_app.kept_overrides import KeptOverridesParser

_FILES = {"config.yaml": "lr: 1\nname: a\nlist: [1]\n"}


def _lists(config: Any) -> list[Any]:
    return [config.hydra.overrides.hydra, config.hydra.overrides.task]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("lr=2",),
        ("lr=2", "name=???", "+a.b=${lr}", "list=[1,2]", "~name", "+c={x: 1}"),
        ("lr=2", "hydra.job.name=x", "name=b", "hydra.verbose=true"),
        ("hydra.overrides.task=[x,y]", "lr=3", "name=b"),
        ("++hydra.overrides.hydra=[1,2.5,null]", "lr=3", "name=b"),
        ("hydra.overrides.task=${hydra.overrides.hydra}", "lr=2"),
        ("hydra.overrides.task=null", "hydra.verbose=true"),
    ],
)
def test_the_lists_are_hydras(overrides: tuple[str, ...]) -> None:
    app = Composers(_FILES, "hydra.job.chdir=true", "hydra.sweep.dir=x")
    app.learn("lr=5")
    try:
        config = app.compose(*overrides)
    except Exception:
        plain, quick = app.errors(*overrides)
        assert plain == quick
        return
    assert app.from_bases
    for each in _lists(config):
        assert type(each) in (ListConfig, type(None))


def test_only_the_first_of_all_configs_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Composers(_FILES, "hydra.job.chdir=true", "hydra.sweep.dir=x")
    app.learn("lr=5")
    checked: list[Any] = []
    own = StringNode.validate_and_convert

    def validate_and_convert(node: StringNode, value: Any) -> Any:
        checked.append(value)
        return own(node, value)

    monkeypatch.setattr(StringNode, "validate_and_convert", validate_and_convert)
    config = app.quickly("lr=2", "name=b", "+c=1")
    assert [list(each) for each in _lists(config)] == [
        ["hydra.job.chdir=true", "hydra.sweep.dir=x"],
        ["lr=2", "name=b", "+c=1"],
    ]
    noted = {*_lists(config)[0], *_lists(config)[1]}
    assert noted.isdisjoint(checked)
    assert config.hydra.runtime.cwd in checked  # which the place of the two others is in
    noted = {*config.hydra.runtime.choices.values(), config.hydra.runtime.config_sources[0].path}
    assert noted.isdisjoint(checked)


@pytest.mark.parametrize("before", [[], ["name=b"]])
def test_an_override_that_its_list_refuses_is_refused(before: list[str]) -> None:
    """Its value is a valid interpolation; as written, with escaped quotes, it is none."""
    app = Composers(_FILES)
    app.learn("lr=5")
    plain, quick = app.errors(*before, r"+i='${oc.decode:\'1\'}'")
    assert plain == quick


def test_an_append_of_the_apps_own_sees_every_override(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Composers(_FILES)
    app.learn("lr=5")
    seen: list[Any] = []

    def append(self: ListConfig, item: Any) -> None:
        seen.append(item)
        quick_appends._append(self, item)

    monkeypatch.setattr(ListConfig, "append", append)
    app.quickly("lr=2", "name=b")
    assert [each for each in seen if isinstance(each, str)] == ["lr=2", "name=b"]


@pytest.mark.parametrize(
    "text",
    [
        *("lr=0", "lr=7", "lr=10", "+a/b@c.d=12", "++x.y=3", "~x=4", "a.0=5", "$=6"),
        *("lr=007", "lr=-1", "lr=+1", "lr=1_000", "lr=1.0", "lr=1e3", "lr= 7", "lr=7 ", "lr=٣"),
        *(
            "lr=" + "9" * 17,
            "lr=" + "9" * 40,
            "lr=",
            "lr=a=1",
            "=1",
            "a b=1",
            "~=1",
            "lr==1",
            "lr=1,2",
        ),
        "lr=1\n",
    ],
)
def test_numbers_are_parsed_as_hydra_does(text: str) -> None:
    outcomes: list[Any] = []
    for kind in (OverridesParser, KeptOverridesParser, KeptOverridesParser):
        try:
            [override] = kind.create().parse_overrides([text])
        except Exception as error:
            outcomes.append((type(error), str(error)))
        else:
            outcomes.append((vars(override), type(override._value)))
    assert outcomes[1:] == outcomes[:1] * 2

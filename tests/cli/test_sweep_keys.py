"""The keys of a sweep are checked against the config that a Hydra app really composes.

What Hydra would take is never refused, wherever the app has it from; what it would not take is
refused before any job starts.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import first_row_fast
from hsm.hydra_app import asked_app

pytestmark = pytest.mark.thorough

_CONFIGS = """\
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

@dataclass
class Optim:
    lr: float = 0.01

@dataclass
class Adam(Optim):
    beta: float = 0.9

@dataclass
class Config:
    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"optim": "sgd"}])
    optim: Optim = MISSING
    seed: int = 0
    options: dict[str, int] = field(default_factory=lambda: {"a": 1})
    anything: Any = None

store = ConfigStore.instance()
store.store(name="config", node=Config)
store.store(group="optim", name="sgd", node=Optim)
store.store(group="optim", name="adam", node=Adam)
"""
_MAIN = """\
import hydra
@hydra.main(version_base=None, config_path={path}, config_name="config")
def main(cfg):
    pass
if __name__ == "__main__":
    main()
"""


def _structured(project: Project) -> None:
    project.write("configs.py", _CONFIGS)
    project.write("train.py", "import configs\n" + _MAIN.format(path=None))


def _in_files(project: Project) -> None:
    """Experiments that replace choices and add keys, a nested group, an optional one."""
    project.write("train.py", _MAIN.format(path='"conf"'))
    files = {
        "config": "defaults: [_self_, {model: mlp}, {optional local: none}]\nseed: 0\n",
        "model/mlp": "defaults: [{act: relu}]\nwidth: 1\n",
        "model/cnn": "depth: 1\n",
        "model/act/relu": "slope: 0\n",
        "model/act/elu": "alpha: 1\n",
        "experiment/big": "# @package _global_\ndefaults: [{override /model: cnn}]\nnew: {a: 1}\n",
        "experiment/small": "# @package _global_\nmodel: {width: 2}\n",
        "local/here": "here: 1\n",
        "fold/a": "k: 1\n",
        "fold/b": "k: 2\n",
    }
    for name, text in files.items():
        project.write(f"conf/{name}.yaml", text)


def _dry(project: Project, words: str, code: int = 0) -> str:
    ran = project.here("sweep", "--script", "train.py", *words.split(), "--dry-run", code=code)
    return ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    first_row_fast(
        ("optim=sgd,adam optim.bta=1", "has no key 'optim.bta'; did you mean optim.beta?"),
        ("sed=1", "did you mean seed?"),
        ("optim.beta=1", "has no key 'optim.beta'"),
        ("optim=adm", "optim must be one of adam, sgd, not 'adm'; did you mean adam?"),
        ("entirely.new=1", "has no key 'entirely.new'; +entirely.new=... adds it"),
        ("+seed=1", "has a key 'seed' already"),
    ),
)
def test_a_wrong_key_of_a_structured_config(project: Project, words: str, said: str) -> None:
    _structured(project)
    assert said in project.refused("sweep", "--script", "train.py", *words.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "optim=sgd,adam optim.beta=1,2",
        "seed=1 ++optim.lr=1 options.a=1 +options.b=1 anything.x=1",
        "+anything.new=1 hydra.verbose=true",
    ],
)
def test_a_right_key_of_a_structured_config(project: Project, words: str) -> None:
    _structured(project)
    assert _dry(project, words) == ""


@pytest.mark.slow
def test_nothing_starts_through_any_door(project: Project) -> None:
    _structured(project)
    project.write("hsm.yaml", "script: train.py\n")
    for words in (["sed=1"], ["sed=1", "--count-only"], ["sed=1", "--detach"]):
        assert "did you mean seed?" in project.refused("sweep", *words)
    project.write("sweep.yaml", "sweep:\n  grid:\n    sed: [1]\n")
    assert "sweep.yaml: the app's config has no key 'sed'" in project.refused(
        "sweep", "-c", "sweep.yaml"
    )


@pytest.mark.parametrize(
    "words",
    [
        "+experiment=big new.a=1 model.depth=2",
        "+experiment=small,big model.width=1 model.depth=1",
        "model=mlp model/act=elu",
        "model/act=elu,relu model.act.alpha=1",
        "+fold=a,b fold.k=3",
        "+new={a:1} new.a=2",
        "~model seed=1",
        "local=here local.here=2",
    ],
)
def test_a_right_key_of_configs_in_files_needs_no_start_of_the_app(
    project: Project, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.hydra_app.config_check.ask", None)
    _in_files(project)
    assert _dry(project, words) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("+experiment=big model.width=1", "has no key 'model.width'"),
        ("new.a=1", "has no key 'new.a'"),
        ("fold=a", "does not compose with fold=a: Could not override 'fold'. No match in the def"),
        ("model=cnn,mlp model/act=elu", "does not compose with model=cnn model/act=elu: "),
    ],
)
def test_a_wrong_key_of_configs_in_files(project: Project, words: str, said: str) -> None:
    _in_files(project)
    assert said in project.refused("sweep", "--script", "train.py", *words.split())


@pytest.mark.slow
def test_an_option_that_a_module_of_the_app_registers(project: Project) -> None:
    _in_files(project)
    project.write(
        "more.py",
        "from hydra.core.config_store import ConfigStore\n"
        "ConfigStore.instance().store(group='model', name='tree', node={'leaves': 1})\n",
    )
    project.write("train.py", "import more\n" + _MAIN.format(path='"conf"'))
    assert _dry(project, "model=tree,cnn model.leaves=1,2") == ""
    assert "did you mean tree?" in _dry(project, "model=tre", code=2)


@pytest.mark.slow
def test_an_app_that_cannot_be_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    _structured(project)
    project.write("configs.py", "import no_such_module\n")
    note = _dry(project, "sed=1")
    assert note == (
        "hsm: cannot check the keys of this sweep: ./train.py fails before its main function: "
        "ModuleNotFoundError: No module named 'no_such_module'\n"
    )
    project.write(
        "configs.py",
        "import subprocess, time\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)\n",
    )
    with monkeypatch.context() as patched:
        patched.setattr(asked_app, "TIMEOUT", 1.0)
        assert "./train.py has not come to its main function in 1 s" in _dry(project, "sed=1")
    project.write("train.py", "import hydra\nfrom hydra import main\nprint(main)\n")
    assert "fails before its main function: " in _dry(project, "sed=1")


@pytest.mark.slow
def test_the_app_is_asked_and_not_run(project: Project, tmp_path: Path) -> None:
    _structured(project)
    main = _MAIN.format(path=None).replace("    pass", "    open('ran', 'w')")
    project.write(
        "train.py", f"import configs, sys\nprint('noise', sys.stdin.read())\n{main}\n1 / 0\n"
    )
    assert _dry(project, "seed=1,2") == ""
    assert sorted(path.name for path in project.folder.iterdir() if path.suffix != "") == [
        "configs.py",
        "train.py",
    ]

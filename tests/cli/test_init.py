"""`hsm init` writes what runs: in each kind of project `hsm sweep --dry-run` lists jobs at once."""

from __future__ import annotations

import pytest

from helpers.cli import Project
from hsm.cli._proposed import grid
from hsm.core.settings.resolve import SETTINGS, resolve_local
from hsm.core.space.definition import read_sweep_file

pytestmark = pytest.mark.thorough

_STRUCTURED = """\
from dataclasses import dataclass, field

import hydra
from hydra.core.config_store import ConfigStore

@dataclass
class Model:
    name: str = "mlp"
    width: int = 64

@dataclass
class Deep(Model):
    depth: int = 2

@dataclass
class Config:
    defaults: list = field(default_factory=lambda: ["_self_", {"model": "mlp"}])
    model: Model = field(default_factory=Model)
    lr: float = 1e-3
    seed: int = 42
    num_workers: int = 4
    data_dir: str = "/data"
    verbose: bool = False

for name, node in {"mlp": Model, "deep": Deep}.items():
    ConfigStore.instance().store(group="model", name=name, node=node)
ConfigStore.instance().store(name="config", node=Config)

@hydra.main(version_base=None, config_path=None, config_name="config")
def main(cfg):
    print(cfg.model.width, cfg.lr)

if __name__ == "__main__":
    main()
"""
_EMPTY = """\
import hydra
@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print(cfg)
if __name__ == "__main__":
    main()
"""


def _init(project: Project) -> tuple[str, str]:
    """Run it; return the lines of the proposed grid, and what it wrote to stderr."""
    ran = project.here("init")
    assert ran.out.endswith("next: hsm sweep --dry-run lists the jobs, hsm sweep runs them\n")
    places = (project.folder / name for name in ("conf/sweep.yaml", "sweeps/sweep.yaml"))
    text = next(place.read_text() for place in places if place.exists())
    grid = text.partition("  grid:\n")[2].partition("\n\n")[0]
    return "\n".join(line.strip() for line in grid.splitlines()), ran.err


def _jobs(project: Project) -> int:
    ran = project.here("sweep", "--dry-run")
    assert ran.err == ""
    return ran.out.count("\n")


def test_a_structured_config(project: Project) -> None:
    project.write("train.py", _STRUCTURED)
    grid, err = _init(project)
    assert err == ""
    assert grid == (
        "model: [deep, mlp]\nlr: [0.001, 0.0001]  # 0.001 in the config\n"
        "seed: range(42, 45)\n# model.width: [64, 128]"
    )
    assert _jobs(project) == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train.py", "src/pkg/train.py", "pkg/fit.py"])
def test_wherever_the_script_is(project: Project, name: str) -> None:
    project.write(name, _STRUCTURED)
    project.write("src/pkg/helper.py", "from . import x\nimport hydra\nhydra.main\n")
    project.write(".venv/pyvenv.cfg", "")
    project.write(".venv/train.py", _STRUCTURED)
    _init(project)
    assert f"\nscript: {name}\n" in (project.folder / "hsm.yaml").read_text()
    assert _jobs(project) == 12


@pytest.mark.slow
def test_an_app_whose_config_is_empty(project: Project) -> None:
    project.write("train.py", _EMPTY)
    assert _init(project)[0] == "+lr: [0.1, 0.01]  # the + adds a key that the config lacks"
    assert "2 completed" in project.hsm("sweep", "--sweep-id", "s").out


@pytest.mark.slow
def test_a_config_that_wants_a_choice(project: Project) -> None:
    project.write("train.py", _STRUCTURED.replace('{"model": "mlp"}', '{"model": "???"}'))
    assert _init(project)[0].startswith("model: [deep, mlp]\nlr: ")
    assert _jobs(project) == 12


@pytest.mark.slow
def test_an_app_that_cannot_run_here(project: Project) -> None:
    main = 'config_path="conf", config_name="config"'
    project.write("train.py", "import torhc\n" + _EMPTY.replace("config_path=None", main))
    project.write("conf/config.yaml", "lr: 0.1\nname: x\n")
    grid, err = _init(project)
    assert grid == "lr: [0.1, 0.01]  # 0.1 in the config"
    assert err == (
        "hsm: ./train.py fails before its main function: ModuleNotFoundError: No module named "
        "'torhc': the sweep is made from its config files alone\n"
    )
    assert _jobs(project) == 2
    (project.folder / "conf/config.yaml").unlink()
    (project.folder / "conf/sweep.yaml").unlink()
    assert "does not compose: " in _init(project)[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.py", "import sys; print(sys.argv)"),
        ("fit.py", 'import sys\nif __name__ == "__main__":\n    sys.argv'),
    ],
)
def test_a_script_without_hydra(project: Project, name: str, text: str) -> None:
    project.write(name, text)
    _init(project)
    assert f"\nscript: {name}\n" in (project.folder / "hsm.yaml").read_text()
    assert _jobs(project) == 6


_ARGPARSE = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-l", "--learning-rate", type=float, default=0.1)
parser.add_argument("--batch_size", type=int, default=32)
parser.add_argument("--workers", type=int, default=4)
parser.add_argument("--seed", type=int, default=-1)
parser.add_argument("--name", default="x")
args = parser.parse_args()
"""
_CLICK = """\
import click
@click.command()
@click.option("--rate", "-r", default=0.5)
@click.option("--loud", is_flag=True)
def main(rate, loud):
    print(rate)
main()
"""
_TYPER = """\
from typing import Annotated
import typer
def main(rate: float = 0.5, lr: float = typer.Option(0.1), n: Annotated[int, typer.Option()] = 3):
    print(rate)
typer.run(main)
"""
_ABSL = """\
from absl import app, flags
flags.DEFINE_float("rate", 0.5, "the rate")
app.run(print)
"""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            _ARGPARSE,
            "learning_rate: [0.1, 0.01]  # 0.1 by default\nseed: range(-1, 2)\n"
            "# batch_size: [32, 64]",
        ),
        (_CLICK, "rate: [0.5, 0.05]  # 0.5 by default"),
        (_TYPER, "rate: [0.5, 0.05]  # 0.5 by default\n# lr: [0.1, 0.01]"),
        (_ABSL, "rate: [0.5, 0.05]  # 0.5 by default"),
        (
            "import argparse\nparser = argparse.ArgumentParser()\n"
            "parser.add_argument('--name')\nparser.parse_args()",
            "name: [first, second]  # put your own values here",
        ),
    ],
)
def test_the_options_of_a_script(project: Project, text: str, lines: str) -> None:
    project.write("train.py", text)
    assert _init(project)[0] == lines
    project.here("sweep", "--dry-run")


def test_a_script_with_an_odd_name(project: Project) -> None:
    project.write("my #1 fit.py", 'import sys\nif __name__ == "__main__":\n    print(sys.argv)')
    _init(project)
    assert _jobs(project) == 6


def test_every_setting_that_is_the_default_stays_a_comment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("train.py", "")
    _init(project)
    lines = (project.folder / "hsm.yaml").read_text().splitlines()
    assert [line for line in lines if line.strip() and not line.strip().startswith("#")] == [
        "script: train.py",
        "local:",
    ]
    for name, setting in SETTINGS.items():
        assert setting.per_sweep or any(f"  # {name}: " in line for line in lines), name
    monkeypatch.setenv("HSM_LOCAL_TIMEOUT", "90")
    assert resolve_local(hsm_config=project.folder / "hsm.yaml").conf.timeout == 90.0


def test_twice(project: Project) -> None:
    project.write("train.py", "")
    _init(project)
    texts = [path.read_text() for path in sorted(project.folder.rglob("*.yaml"))]
    ran = project.here("init")
    assert ran.out.splitlines()[:2] == [
        "hsm.yaml exists already: not changed",
        "sweeps/sweep.yaml exists already: not changed",
    ]
    assert [path.read_text() for path in sorted(project.folder.rglob("*.yaml"))] == texts


def test_what_is_proposed_for_the_configs_that_people_have(project: Project) -> None:
    base = {
        "optimizer": {"learning_rate": 3e-4, "weight_decay": 0},
        "port": 8080,
        "trainer": {"max_epochs": 10, "log_every_n_steps": 50, "devices": 1},
        "random_seed": None,
        "odd key": 1,
        "tags": ["a"],
        "resume": None,
        "nan": float("nan"),
        "big": 1e22,
        "link": "${port}",
    }
    configs = {"a": base, "off": base, "1": base, "d": base}
    free = {"trainer": configs, "paths": configs, "data": configs, "model": configs}
    lines = list(grid(base, free))
    assert lines == [
        "data: [a, 'off', '1']",
        "optimizer.learning_rate: [0.0003, 3e-05]  # 0.0003 in the config",
        "random_seed: range(0, 3)",
        "# model: [a, 'off', '1', d]",
        "# optimizer.weight_decay: [0, 1]",
        "# trainer.max_epochs: [10, 20]",
    ]
    text = "\n    ".join(("sweep:\n  grid:", *(line.removeprefix("# ") for line in lines)))
    points = list(read_sweep_file(project.write("s.yaml", text)))
    assert {point["data"] for point in points} == {"a", "off", "1"}
    assert {point["optimizer.learning_rate"] for point in points} == {3e-4, 3e-5}

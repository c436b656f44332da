"""What a sweeper composes to validate a point is the config of its job, unless it could differ."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from helpers.composing import Composers, tree
from helpers.hydra import launcher_args, read_journal, run_python, write_files
from hsm.hydra_app import validated_configs
from hsm.hydra_app.hydra_job import compose
from hsm.hydra_app.kept_overrides import overrides_of_hydra
from hsm.hydra_app.remembered_bases import NOTHING, Supplied, supplied_config
from hsm.hydra_app.validated_configs import unpack

_FILES = {"config.yaml": "defaults: [_self_, db: mysql]\nlr: 1\n", "db/mysql.yaml": "user: root\n"}
_OVERRIDES = ["lr=3", "+db.more={x: 1}"]


def _validated(
    app: Composers, overrides: Sequence[str] = _OVERRIDES, *, before: int = 2
) -> bytes | None:
    """What is kept for the job of a point, `before` others of which were composed before."""
    for num in range(before):
        app.quickly(f"lr={num}")
    app.quickly(*overrides)
    of_hydra = overrides_of_hydra(app.master)
    packed: bytes | None = app.quick.validated.take(of_hydra, [overrides])[0]  # type: ignore[attr-defined]
    return packed


def _taken(app: Composers, packed: bytes | None) -> DictConfig | None:
    assert packed is not None
    return unpack(packed, app.quick.generation(), app.master)  # type: ignore[attr-defined]


def test_a_job_gets_what_it_would_compose() -> None:
    app = Composers(_FILES, "hydra.job.chdir=true")
    packed = _validated(app)

    config = _taken(app, packed)

    assert tree(config) == tree(app.plain.load_sweep_config(app.master, _OVERRIDES))
    assert supplied_config(app.quick, app.master, Supplied(packed)) == config


def test_overrides_of_hydras_config_may_have_interpolations() -> None:
    subdir = "hydra.sweep.subdir=${hydra.job.id}"  # which the sweep's config does not have
    app = Composers(_FILES, subdir)

    config = _taken(app, _validated(app, ["lr=3"]))

    assert config is not None
    assert tree(config) == tree(app.plain.load_sweep_config(app.master, ["lr=3"]))


def test_each_config_is_taken_once_and_by_its_own_job() -> None:
    app = Composers(_FILES)
    app.learn()
    for num in range(3):
        app.quickly(f"lr={num}")
    validated: Any = app.quick.validated  # type: ignore[attr-defined]
    of_hydra = overrides_of_hydra(app.master)

    packed = validated.take(of_hydra, [["lr=1"], ["lr=5"], ["lr=0"]])

    lrs = [each if each is None else _taken(app, each).lr for each in packed]  # type: ignore[union-attr]
    assert lrs == [1, None, 0]
    assert validated.take(of_hydra, [["lr=2"]]) == [None]


def test_what_resolvers_have_returned_since_is_the_same_in_the_job() -> None:
    app = Composers({**_FILES, "config.yaml": "lr: 1\nwhen: ${now:%f}\n"})
    packed = _validated(app, ["lr=3"])
    when = app.master.when  # The sweep's own is resolved after the points have been validated.

    config = _taken(app, packed)

    assert config is not None
    assert config.when == when


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("lr: 1\n", ["+order=shuffle([1,2,3])"]),
        ("lr: 1\n", ["+order=sort([3,1])"]),
        ("hydra: {job: {env_copy: [HOME]}}\nlr: 1\n", ["lr=2"]),
        pytest.param(
            "lr: 1\n",
            ["hydra.job.config.override_dirname.kv_sep=${oc.env:HOME}"],
            marks=pytest.mark.skipif(
                not hydra.__version__.startswith("1.3."), reason="Hydra 1.4 resolves it in the job"
            ),
        ),
    ],
    ids=["shuffle", "function", "env_copy", "resolver"],
)
def test_what_could_be_otherwise_in_the_job_is_left_to_it(
    config: str, overrides: list[str]
) -> None:
    assert _validated(Composers({"config.yaml": config}), overrides) is None


@pytest.mark.filterwarnings("ignore:.*is not available")
@pytest.mark.parametrize(
    ("folder", "is_taken"),
    [("FOLDER", True), ("${oc.env:HOME}", False), ("FOLDER/nowhere", False)],
)
@pytest.mark.parametrize("is_override", [True, False], ids=["override", "config"])
def test_a_search_path_that_resolves_or_warns_is_left_to_the_job(
    tmp_path: Path, folder: str, is_taken: bool, is_override: bool
) -> None:
    url = f"file://{folder.replace('FOLDER', str(tmp_path))}"
    if is_override:
        app, overrides = Composers(_FILES), [f"hydra.searchpath=['{url}']"]
    else:
        text = f"hydra: {{searchpath: ['{url}']}}\nlr: 1\n"
        app, overrides = Composers({"config.yaml": text}), []
    for _ in range(2):  # The base of this search path is another one.
        app.quickly(*overrides)

    assert (_validated(app, overrides) is not None) == is_taken
    assert app.from_bases


def test_what_warns_is_left_to_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(*_: Any) -> None:
        warnings.warn("each time", stacklevel=1)

    app = Composers(_FILES)
    app.learn()
    monkeypatch.setattr(type(app.quick), "_apply_overrides_to_config", staticmethod(warning))
    monkeypatch.setattr(
        "hydra._internal.config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config",
        staticmethod(warning),
    )
    with pytest.warns(UserWarning, match="each time"):
        assert _validated(app, before=0) is None


def test_the_configs_that_bases_are_learned_from_are_left_to_the_jobs() -> None:
    assert _validated(Composers(_FILES), before=0) is None
    assert _validated(Composers(_FILES), before=1) is None


def test_a_job_in_another_directory_composes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Composers(_FILES)
    packed = _validated(app)
    monkeypatch.chdir(tmp_path / "..")

    assert _taken(app, packed) is None
    assert supplied_config(app.quick, app.master, Supplied(packed)) is None
    config = app.quick.load_sweep_config(app.master, _OVERRIDES)
    assert config.hydra.runtime.cwd == str(Path.cwd())


def test_a_job_whose_configstore_has_changed_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConfigStore.instance(), "repo", copy.copy(ConfigStore.instance().repo))
    app = Composers(_FILES)
    packed = _validated(app)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra 1.4 wants to be told that it is to replace one
        ConfigStore.instance().store(name="another", node={"x": 1})

    assert _taken(app, packed) is None


def test_a_new_interpreter_composes() -> None:
    app = Composers(_FILES)
    packed = _validated(app)
    app.quick = copy.deepcopy(app.quick)  # which copies it as pickle does

    assert _taken(app, packed) is None


def test_a_damaged_config_is_composed() -> None:
    app = Composers(_FILES)
    assert _taken(app, b"damaged") is None


@pytest.mark.parametrize(("name", "limit"), [("_MAX_BYTES", 5000), ("_MAX_CONFIGS", 2)])
def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    monkeypatch.setattr(validated_configs, name, limit)
    app = Composers(_FILES)
    app.quick.validated = validated_configs.ValidatedConfigs()  # type: ignore[attr-defined]
    app.learn()
    points = [[f"lr={num}"] for num in range(20)]
    for each in points:
        app.quickly(*each)

    packed = app.quick.validated.take(overrides_of_hydra(app.master), points)  # type: ignore[attr-defined]

    kept = [each is not None for each in packed]
    assert kept == sorted(kept, reverse=True)  # the first ones, which start first
    assert 0 < sum(kept) < 20


def test_a_loader_of_hydras_composes() -> None:
    app = Composers(_FILES)
    assert supplied_config(app.plain, app.master, NOTHING) is None
    assert compose(app.plain, app.master, ["lr=7"], 0, "s_0").lr == 7


_APP = {
    "train.py": """
        import os

        import hydra
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        composed = []
        own = ConfigLoaderImpl.load_sweep_config


        def noting(*given):
            composed.append(os.getpid())  # in the launcher, and in a job that composes
            return own(*given)


        ConfigLoaderImpl.load_sweep_config = noting


        @hydra.main(version_base=None, config_path="conf", config_name="config")
        def main(cfg):
            of_job = [HydraConfig.get().job.num, composed.count(os.getpid())]
            return [OmegaConf.to_container(cfg, resolve=True), *of_job]


        main()
    """,
    "conf/config.yaml": "lr: 0\nnum: ${hydra:job.num}\nid: ${oc.env:HSM_JOB_ID}\n",
}


@pytest.mark.parametrize("batch", ["null", "3"])
def test_jobs_of_hydras_own_sweeper_have_their_own_configs(tmp_path: Path, batch: str) -> None:
    write_files(tmp_path, _APP)
    arguments = ["-m", *launcher_args(), "hydra.sweep.dir=sweep", "lr=range(8)"]
    done = run_python(tmp_path, "train.py", *arguments, f"hydra.sweeper.max_batch_size={batch}")

    assert done.code == 0, done.text
    values = [each["value"] for each in read_journal(tmp_path / "sweep") if "value" in each]
    assert len(values) == 8
    for config, num, compositions in values:
        assert (config["lr"], config["num"]) == (num, num)
        assert config["id"].endswith(f"_{num}")
        assert compositions == (1 if num < 2 else 0)  # The first two give the base.

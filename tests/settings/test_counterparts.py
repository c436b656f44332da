"""The names of other launchers' settings: each is answered with hsm's own, or with its absence."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import launcher_args, run_python, write_files
from helpers.processes import first_fast
from helpers.settings import refusal, write
from hsm.core.errors import UnknownSetting
from hsm.core.settings.counterparts import COUNTERPARTS
from hsm.core.settings.resolve import SETTINGS, resolve_local

pytestmark = pytest.mark.thorough

_APP = """
    import hydra


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        pass


    if __name__ == "__main__":
        main()
"""


def test_every_name_is_answered_in_one_sentence() -> None:
    for launcher, counterparts in COUNTERPARTS.items():
        for counterpart in counterparts:
            assert set(counterpart.ours) <= set(SETTINGS)
            for name in (name for name in counterpart.theirs if name not in SETTINGS):
                with pytest.raises(UnknownSetting) as caught:
                    resolve_local({name: 1})
                said = str(caught.value)
                assert f"{launcher}'s {name}" in said
                assert all(ours in said for ours in counterpart.ours)
                assert said.endswith(", see docs/moving.md")
                assert "\n" not in said


@pytest.mark.parametrize("name", ["minimize", "maximize"])
def test_a_direction_as_a_switch_is_answered_with_the_setting(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "hsm.yaml", f"local: {{{name}: true}}")
    said = f"unknown setting local.{name} in {path}, line 1; set direction to {name}"
    assert str(refusal(hsm_config=path)) == said
    write(path, f"{name}: true")
    said = f"unknown setting {name} in {path}, line 1; write local: {{direction: {name}}}"
    assert str(refusal(hsm_config=path)) == said
    said = f"unknown argument {name}; set direction to {name}"
    assert str(refusal({name: True})) == said


def test_no_name_is_in_two_tables() -> None:
    names = [name for each in COUNTERPARTS.values() for one in each for name in one.theirs]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("where", first_fast("override", "config", "hsm.yaml"))
def test_a_sweep_with_such_a_name_is_refused_before_anything_is_written(
    tmp_path: Path, where: str
) -> None:
    launcher = "  launcher: {n_jobs: 2}\n" if where == "config" else ""
    config = (
        f"defaults: [{{override hydra/launcher: hsm_local}}]\nhydra:\n  verbose: false\n{launcher}"
    )
    files = {"app.py": _APP, "conf/config.yaml": config}
    if where == "hsm.yaml":
        files["hsm.yaml"] = "local: {n_jobs: 2}\n"
    write_files(tmp_path, files)
    overrides = ["hydra.launcher.n_jobs=2"] if where == "override" else []
    done = run_python(tmp_path, "app.py", "-m", *launcher_args()[:1], "+x=1,2", *overrides)
    assert done.code == 1
    assert "unknown setting " in done.err
    assert "; write max_parallel_jobs for joblib's n_jobs" in done.err
    assert "Traceback" not in done.text
    assert not (tmp_path / "multirun").exists()

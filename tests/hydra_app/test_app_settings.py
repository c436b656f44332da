"""The launcher among the configs of an app: shown, completed, set, and refused if set wrongly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from helpers.hydra import (
    launcher_args,
    read_journal,
    run_python,
    succeed,
)
from helpers.noting_app import environment
from helpers.processes import first_row_fast


def _show(app: Path, *args: str, **env: str) -> Any:
    return succeed(run_python(app, "train.py", *args, env={**environment(app), **env}))


def test_cfg_shows_the_settings(app: Path) -> None:
    args = ["--cfg", "hydra", "-p", "hydra.launcher", "--resolve"]
    shown = _show(app, "hydra/launcher=hsm_local", "hydra.launcher.timeout=90", *args).out
    for line in (
        "_target_: hydra_plugins.hsm_local_launcher.launcher.HsmLocalLauncher",
        "max_parallel_jobs: 4",
        "timeout: 90",
        "show_output: false",
        "cleanup_on_exit: true",
        "start_method: auto",
        "kill_grace: 5",
        "fail_fast: false",
        "progress: auto",
    ):
        assert re.search(rf"^{re.escape(line)}(\.0)?$", shown, re.MULTILINE), line


@pytest.mark.slow
def test_help_names_the_launcher_among_the_groups(app: Path) -> None:
    assert re.search(r"hydra/launcher:.*\bhsm_local\b", _show(app, "--hydra-help").out)
    assert "tag: ${doubled:21}" in _show(app, "hydra/launcher=hsm_local", "--help").out


def test_info_lists_the_plugin(app: Path) -> None:
    assert "HsmLocalLauncher" in _show(app, "--info", "plugins").out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hydra/launcher=", {"hydra/launcher=basic", "hydra/launcher=hsm_local"}),
        (
            "hydra/launcher=hsm_local hydra.launcher.",
            {
                "hydra.launcher.max_parallel_jobs=",
                "hydra.launcher.timeout=",
                "hydra.launcher.show_output=",
                "hydra.launcher.start_method=",
            },
        ),
        ("hydra/launcher=hsm_local hydra.launcher.kill", {"hydra.launcher.kill_grace="}),
    ],
    ids=["group", "settings", "prefix"],
)
def test_tab_completion(app: Path, line: str, expected: set[str]) -> None:
    typed = "python train.py " + line
    done = _show(app, "-sc", "query=bash", COMP_LINE=typed, COMP_POINT=str(len(typed)))
    assert expected <= set(done.out.split())


#: Each is refused for another reason. What values are refused is tested in tests/settings.
BAD_SETTINGS = first_row_fast(
    ("max_parallel_jobs", "0"),
    ("max_parallel_job", "2"),
    ("max_parallel_jobs", "many"),
    ("+unheard_of", "1"),
)


@pytest.mark.parametrize(("setting", "value"), BAD_SETTINGS)
def test_bad_settings_are_refused_by_name_before_any_job(
    app: Path, setting: str, value: str
) -> None:
    override = re.sub(r"^(\+?)", r"\1hydra.launcher.", setting) + f"={value}"
    done = run_python(
        app, "train.py", "-m", *launcher_args(), override, "lr=0.1,0.2", env=environment(app)
    )
    assert done.code == 1
    assert setting.lstrip("+") in done.text
    if "+" not in setting and setting != "max_parallel_job":
        assert value in done.text.lower().replace("none", "null")
    assert "Traceback" not in done.text
    assert not list(app.rglob("seen.json"))
    assert not list(app.rglob("*.out"))


@pytest.mark.slow
def test_bad_settings_in_a_config_file_are_refused_too(app: Path) -> None:
    with (app / "conf" / "config.yaml").open("a") as file:
        file.write("  launcher: {max_parallel_jobs: 0}\n")
    done = run_python(
        app, "train.py", "-m", "hydra/launcher=hsm_local", "lr=0.1,0.2", env=environment(app)
    )
    assert done.code == 1
    assert "max_parallel_jobs" in done.text
    assert "Traceback" not in done.text
    assert not list(app.rglob("seen.json"))


def test_the_launcher_and_its_settings_may_come_from_the_config(app: Path) -> None:
    text = (app / "conf" / "config.yaml").read_text()
    text = text.replace("_self_]", "_self_, {override hydra/launcher: hsm_local}]")
    (app / "conf" / "config.yaml").write_text(text + "  launcher: {max_parallel_jobs: 3}\n")
    args = ["-m", "hydra.sweep.dir=sweep", "lr=0.1,0.2"]
    succeed(run_python(app, "train.py", *args, env=environment(app)))
    assert read_journal(app / "sweep")[0]["settings"]["max_parallel_jobs"] == 3

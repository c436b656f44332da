"""Variables and needs of the jobs of a Hydra app, and where the values of variables are not."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from helpers.hydra import launcher_args, read_journal, run_python, succeed, write_files

_SECRET = "tr0ub4dor"
_APP = """
    import os

    import hydra


    @hydra.main(version_base=None, config_path=None)
    def app(cfg):
        with open(os.path.join(os.environ["HSM_JOB_DIR"], "seen"), "w") as file:
            file.write(os.environ.get("TOKEN", "") + "|" + os.environ.get("MORE", ""))
        return 1


    app()
"""


def _sweep(folder: Path, *overrides: str, code: int = 0, **env: str) -> str:
    write_files(folder, {"app.py": _APP})
    chosen = [*launcher_args(), "hydra.launcher.progress=none", "hydra.sweep.dir=sweep"]
    ran = run_python(folder, "app.py", "-m", "+x=1", *chosen, *overrides, env=env)
    if code == 0:
        succeed(ran)
    else:
        assert ran.code != 0
    return ran.err


def _has_secret(path: Path) -> bool:
    """Whether a file has it, or compressed data in it."""
    data = path.read_bytes()
    at = data.find(b"\x78")
    while at >= 0:
        try:
            if _SECRET.encode() in zlib.decompressobj().decompress(data[at:]):
                return True
        except zlib.error:
            pass
        at = data.find(b"\x78", at + 1)
    return _SECRET.encode() in data


def _files_with_secret(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(folder)) for path in files if _has_secret(path))


@pytest.mark.parametrize(
    "override",
    [
        f"hydra.launcher.env.TOKEN={_SECRET}",
        f"hydra.launcher.env={{TOKEN:{_SECRET}}}",
        f"hydra.launcher.env='TOKEN={_SECRET}'",
    ],
)
@pytest.mark.parametrize("compose", ["", "plain"])
def test_an_override_sets_them(tmp_path: Path, override: str, compose: str) -> None:
    _sweep(tmp_path, override, HSM_COMPOSE=compose)
    assert (tmp_path / "sweep/0/seen").read_text() == f"{_SECRET}|"
    # Hydra itself writes multirun.yaml.
    assert _files_with_secret(tmp_path / "sweep") == ["0/seen", "multirun.yaml"]
    first = read_journal(tmp_path / "sweep")[0]
    assert first["settings"]["env"] == {"TOKEN": "***"}
    assert "***" in (tmp_path / "sweep/0/.hydra/hydra.yaml").read_text()


def test_hsm_yaml_and_the_environment_set_them_and_hydra_writes_no_value(tmp_path: Path) -> None:
    (tmp_path / "hsm.yaml").write_text(f"local: {{env: {{TOKEN: {_SECRET}}}}}")
    _sweep(tmp_path, HSM_LOCAL_ENV="MORE=1")
    assert (tmp_path / "sweep/0/seen").read_text() == f"{_SECRET}|"
    assert _files_with_secret(tmp_path / "sweep") == ["0/seen"]
    shown = ("--cfg", "hydra", "-p", "hydra.launcher", "--resolve")
    out = succeed(run_python(tmp_path, "app.py", "hydra/launcher=hsm_local", *shown)).out
    assert "env: TOKEN=***\n" in out


@pytest.mark.slow
def test_a_spawned_job_has_them(tmp_path: Path) -> None:
    _sweep(tmp_path, f"hydra.launcher.env.TOKEN={_SECRET}", "hydra.launcher.start_method=spawn")
    assert (tmp_path / "sweep/0/seen").read_text() == f"{_SECRET}|"
    assert _files_with_secret(tmp_path / "sweep") == ["0/seen", "multirun.yaml"]


def test_needs_are_recorded_and_checked(tmp_path: Path) -> None:
    given = ("hydra.launcher.resources={licence:2}", "hydra.launcher.resources.tokens=5")
    _sweep(tmp_path, *given, "hydra.launcher.needs.licence=1")
    settings = read_journal(tmp_path / "sweep")[0]["settings"]
    assert settings["resources"] == {"licence": 2, "tokens": 5}
    assert settings["needs"] == {"licence": 1}
    said = _sweep(tmp_path, *given, "hydra.launcher.needs.licnce=1", code=1)
    assert "hydra.launcher.needs: there is no resource 'licnce'; did you mean licence?" in said


def test_what_a_record_shows_in_place_of_a_value_is_none(tmp_path: Path) -> None:
    said = _sweep(tmp_path, "hydra.launcher.env.TOKEN=***", code=1)
    assert "*** stands for a value that is not on record" in said
    assert not (tmp_path / "sweep/0").exists()


def test_the_hint_on_gpus_is_an_override_here(tmp_path: Path) -> None:
    write_files(tmp_path, {"app.py": _APP})
    words = [*launcher_args(), "hydra.launcher.progress=plain", "hydra.sweep.dir=sweep"]
    env = {"CUDA_VISIBLE_DEVICES": "0,1,2"}
    ran = run_python(tmp_path, "app.py", "-m", "+x=1,2", *words, env=env)
    succeed(ran)
    assert "each job sees all 3 GPUs; hydra.launcher.gpus=1 gives each its own" in ran.out

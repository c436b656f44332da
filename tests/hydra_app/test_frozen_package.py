"""Apps whose configs are a package's: they, too, are read when the sweep starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from yaml import YAMLError

from helpers.hydra import launcher_args, read_journal, run_python, write_files
from hsm.hydra_app.frozen_config import FrozenFileSource

_FILES = {
    "myapp": """
        from pkg.app import main

        main()
    """,
    "pkg/__init__.py": "",
    "pkg/app.py": """
        from pathlib import Path

        import hydra


        @hydra.main(version_base=None, config_path="conf", config_name="config")
        def main(cfg):
            for path in Path("pkg/conf/model").glob("*.yaml"):
                path.write_text("value: new\\n")
            return cfg.model.value
    """,
    "pkg/conf/__init__.py": "",
    "pkg/conf/config.yaml": "defaults:\n  - model: a\n",
    "pkg/conf/model/a.yaml": "value: old\n",
    "pkg/conf/model/b.yaml": "value: old\n",
}


@pytest.mark.slow
def test_edits_change_no_pending_job_and_are_noticed_by_a_resume(tmp_path: Path) -> None:
    write_files(tmp_path, _FILES)
    arguments = ["-m", *launcher_args(), "hydra.sweep.dir=sweep", "model=a,b"]
    arguments += ["hydra.sweeper.max_batch_size=1"]
    env = {"PYTHONPATH": str(tmp_path)}
    done = run_python(tmp_path, "myapp", *arguments, env=env)
    assert done.code == 0, done.text
    ends = [event for event in read_journal(tmp_path / "sweep") if event["event"] == "end"]
    assert [event["value"] for event in ends] == ["old", "old"]
    app = tmp_path / "pkg" / "app.py"
    app.write_text(app.read_text() + "# edited\n")
    again = run_python(tmp_path, "myapp", *arguments, "hydra.launcher.resume=true", env=env)
    assert again.code == 1
    assert "conf/model/a.yaml has changed" in again.text
    assert "pkg/app.py has changed" in again.text


@pytest.mark.slow
def test_a_group_that_looks_like_the_output_of_a_run_is_one_all_the_same(tmp_path: Path) -> None:
    write_files(tmp_path, {**_FILES, "pkg/conf/model/.hydra/note.txt": "left by somebody\n"})
    arguments = ["-m", *launcher_args(), "hydra.sweep.dir=sweep", "model=a,b"]
    done = run_python(tmp_path, "myapp", *arguments, env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 0, done.text


def test_an_error_in_a_config_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [1\nb: 2\n")
    source = FrozenFileSource("main", f"file://{tmp_path}")
    with pytest.raises(YAMLError, match=f'in "{tmp_path}/broken.yaml", line 2'):
        source.load_config("broken")

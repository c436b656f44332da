"""Apps started in other ways than `python train.py`: what Python can start, hsm can sweep."""

from __future__ import annotations

import shutil
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.hydra import launcher_args, read_journal, run_python, succeed, write_files
from helpers.processes import SOURCE, START_METHODS, first_fast

_APP = """
import sys
import hsm
FACTOR = 3


def times(x):
    import part
    return x * FACTOR + part.OFFSET


def job(params):
    return times(params["x"])


def main():
    points = [{"x": 1}, {"x": 2}]
    for method in ("fork", "spawn"):
        manager = hsm.LocalManager(2, start_method=method, progress="none")
        results = manager.run(points, function=job, sweep_dir=method)
        print(method, [row["value"] for row in results])
    manager = hsm.LocalManager(2, progress="none")
    results = manager.run(points, command=["sh", "-c", "exit {x}"], sweep_dir="command")
    print("command", [row["exit_code"] for row in results])
    print(sys.argv[1:], hsm.__file__)


if __name__ == "__main__":
    main()
"""
_PART = "OFFSET = 0.5\n"


def _zip(folder: Path, *, with_hsm: bool = False) -> Path:
    files = folder / "files"
    write_files(files, {"__main__.py": _APP, "part.py": _PART})
    if with_hsm:
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE / "hsm", files / "hsm", ignore=leave_out)
    zipapp.create_archive(files, folder / "app.pyz")
    return folder / "app.pyz"


def _script(folder: Path, *options: str, more: str = "") -> list[str]:
    write_files(folder, {"train.py": more + _APP, "part.py": _PART})
    return [*options, "train.py"]


def _package(folder: Path) -> list[str]:
    main = _APP.replace("import part", "from . import part")
    write_files(folder, {"pkg/__init__.py": "", "pkg/__main__.py": main, "pkg/part.py": _PART})
    return ["-m", "pkg"]


def _code(folder: Path) -> list[str]:
    write_files(folder, {"part.py": _PART})
    return ["-c", _APP]


def _stdin(folder: Path) -> list[str]:
    (script,) = _script(folder)
    lines = [
        "import os, sys",
        f"os.dup2(os.open({script!r}, os.O_RDONLY), 0)",
        "os.execv(sys.executable, [sys.executable, '-', *sys.argv[1:]])",
    ]
    return ["-c", "; ".join(lines)]


def _folder(folder: Path) -> list[str]:
    write_files(folder, {"app/__main__.py": _APP, "app/part.py": _PART})
    return ["app"]


#: What makes an app in a folder, and returns the words that start it, after `python`.
_WAYS: dict[str, Callable[[Path], list[str]]] = {
    "zipapp": lambda folder: [_zip(folder).name],
    "zipapp with hsm inside": lambda folder: [_zip(folder, with_hsm=True).name],
    "python -I app.pyz": lambda folder: ["-I", _zip(folder).name],
    "python -I": lambda folder: _script(folder, "-I", more="import sys; sys.path.append('.')\n"),
    "python -P": lambda folder: _script(folder, "-P", more="import sys; sys.path.append('.')\n"),
    "python -E -s -B": lambda folder: _script(folder, "-E", "-s", "-B"),
    "python -S": lambda folder: _script(folder, "-S", more=f"import sys; sys.path += {sys.path}\n"),
    "python -OO -W error": lambda folder: _script(folder, "-OO", "-W", "error::UserWarning"),
    "python -m package": _package,
    "python -m cProfile": lambda folder: ["-m", "cProfile", "-o", "profile", *_script(folder)],
    "python -c": _code,
    "python folder": _folder,
    "python - < train.py": _stdin,
}


@pytest.mark.parametrize("way", first_fast(*_WAYS))
def test_a_program_that_sweeps_starts_in_this_way(tmp_path: Path, way: str) -> None:
    if way == "python -P" and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no -P")
    done = succeed(run_python(tmp_path, *_WAYS[way](tmp_path), "an argument"))
    *seen, last = done.out.splitlines()
    assert seen == ["fork [3.5, 6.5]", "spawn [3.5, 6.5]", "command [1, 2]"]
    assert last.startswith("['an argument']")
    assert ("app.pyz" in last) == ("inside" in way)


_HYDRA_APP = """
import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    from app import part
    return cfg.x * cfg.model.width + part.OFFSET
"""


@pytest.mark.slow
@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_hydra_app_in_a_zip_file_with_its_configs(tmp_path: Path, start_method: str) -> None:
    files = {
        "__main__.py": "from app.train import main\nmain()\n",
        "app/__init__.py": "",
        "app/train.py": _HYDRA_APP,
        "app/part.py": _PART,
        "app/conf/__init__.py": "",
        "app/conf/config.yaml": "x: 1\ndefaults: [_self_, model: small]\n",
        "app/conf/model/__init__.py": "",
        "app/conf/model/small.yaml": "width: 1\n",
        "app/conf/model/large.yaml": "width: 10\n",
    }
    write_files(tmp_path / "files", files)
    zipapp.create_archive(tmp_path / "files", tmp_path / "app.pyz")
    overrides = ["x=2,3", "model=small,large", "hydra.sweep.dir=sweep"]
    succeed(run_python(tmp_path, "app.pyz", "-m", *launcher_args(start_method), *overrides))
    ends = [event for event in read_journal(tmp_path / "sweep") if event["event"] == "end"]
    assert sorted(end["value"] for end in ends) == [2.5, 3.5, 20.5, 30.5]

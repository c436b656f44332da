"""f. A fresh interpreter loads the app as it was: start methods, and modules that nothing finds."""

from __future__ import annotations

import importlib
import json.decoder
import multiprocessing
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import numpy.random
import pytest

from helpers.processes import App, first_fast
from hsm import LocalManager
from hsm.core.errors import HsmError
from hsm.core.program.importable import Importable

pytestmark = pytest.mark.thorough


def write(folder: Path, **modules: str) -> None:
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(dedent(source))


# Each is imported by the app. The launching process has settled on the method in brackets.
_MODULES = {
    "makes_a_lock (default)": "import multiprocessing; lock = multiprocessing.Lock()",
    "has_a_method (spawn)": "import multiprocessing; multiprocessing.set_start_method('spawn')",
    "imports_the_function (forkserver)": """
        from multiprocessing import Lock, set_start_method
        set_start_method("forkserver")
        lock = Lock()
    """,
    "changes_its_mind (spawn)": """
        import multiprocessing
        lock = multiprocessing.Lock()
        multiprocessing.set_start_method("spawn", force=True)
    """,
    "has_a_progress_bar (default)": "import tqdm; list(tqdm.tqdm([1], disable=None))",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", first_fast(*_MODULES))
def test_a_module_may_make_locks_and_choose_a_start_method(tmp_path: Path, kind: str) -> None:
    if "bar" in kind and find_spec("tqdm") is None:
        pytest.skip("no tqdm")
    name, method = kind.rstrip(")").split(" (")
    method = multiprocessing.get_all_start_methods()[0] if method == "default" else method
    write(tmp_path, **{name: _MODULES[kind]})
    app = App(
        tmp_path,
        f"""
    import multiprocessing
    import {name}


    def job(cfg):
        try:
            multiprocessing.set_start_method("fork")
        except RuntimeError:  # as in the app itself: the method is chosen
            return [{name}.__name__, multiprocessing.get_start_method()]
    """,
    )
    swept = app.run("job=range(2)", start_method="spawn")
    assert swept.values == [[name, method]] * 2, swept.screen


@pytest.mark.slow
def test_what_modules_make_at_import_is_of_the_apps_method(tmp_path: Path) -> None:
    """The script chose it before it imported them; a fresh interpreter has no script."""
    write(tmp_path, made="import multiprocessing; lock = multiprocessing.Lock()")
    app = App(
        tmp_path,
        """
    import multiprocessing

    if __name__ == "__main__":
        multiprocessing.set_start_method("forkserver")
    import made


    def job(cfg):
        return made.lock._semlock.name is None  # as of a lock that is for forks alone
    """,
    )
    swept = app.run("job=range(2)", start_method="spawn")
    assert swept.values == [False, False], swept.screen


def load(name: str, path: Path) -> ModuleType:
    """As plug-ins, pages and `pytest --import-mode=importlib` are loaded."""
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _loaded_modules_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in (
        "plugin_of_mine",
        "plugin_of_mine.part",
        "helper_of_mine",
        "tells_of_another",
        "tomllib",
    ):
        if name in sys.modules:
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
        else:
            monkeypatch.delitem(sys.modules, name, raising=False)
            monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that it goes at the end
            del sys.modules[name]


PLUGIN = """
    import dataclasses
    import threading

    lock = threading.Lock()  # cannot be pickled, and no job uses it
    K = 10


    @dataclasses.dataclass
    class Point:
        x: int


    def helper(x):
        return Point(x + K)


    def train(params):
        import plugin_of_mine

        point = helper(params["x"])
        return point.x, type(point) is plugin_of_mine.Point, plugin_of_mine.K


    def fails(params):
        with lock:
            return 1
"""


def values(function: Callable[[Any], Any], folder: Path) -> list[object]:
    with LocalManager(max_parallel_jobs=2, start_method="spawn", progress="none") as manager:
        rows = manager.run([{"x": 1}, {"x": 2}], function=function, sweep_dir=folder / "sweep")
        return [row["value"] for row in rows]


def test_a_module_that_was_loaded_from_a_path_travels(tmp_path: Path) -> None:
    write(tmp_path, plugin=PLUGIN)
    module = load("plugin_of_mine", tmp_path / "plugin.py")
    assert values(module.train, tmp_path) == [[11, True, 10], [12, True, 10]]


def test_a_module_whose_file_is_gone_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, plugin_of_mine=PLUGIN)
    sys.path.insert(0, str(tmp_path))
    import plugin_of_mine  # type: ignore[import-not-found]

    (tmp_path / "plugin_of_mine.py").unlink()
    assert values(plugin_of_mine.train, tmp_path) == [[11, True, 10], [12, True, 10]]


def test_a_module_travels_if_another_file_has_its_name(tmp_path: Path) -> None:
    """Python's own, here; the app has loaded one of its own under that name."""
    write(tmp_path, mine="def train(params): return params['x'] * 7")
    module = load("tomllib", tmp_path / "mine.py")
    assert values(module.train, tmp_path) == [7, 14]


def test_a_package_and_a_module_that_another_one_names_travel(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    write(
        tmp_path,
        **{
            "package/__init__": "import helper_of_mine",
            "package/part": """
                import helper_of_mine
                import plugin_of_mine.part

                def train(params):
                    return helper_of_mine.double(params["x"]), plugin_of_mine.part.__name__
            """,
            "helper": "def double(x): return FACTOR * x\nFACTOR = 2\n",
        },
    )
    load("helper_of_mine", tmp_path / "helper.py")
    load("plugin_of_mine", tmp_path / "package" / "__init__.py")
    module = load("plugin_of_mine.part", tmp_path / "package" / "part.py")
    sys.modules["plugin_of_mine"].part = module  # type: ignore[attr-defined]
    expected = [[2 * x, "plugin_of_mine.part"] for x in (1, 2)]
    assert values(module.train, tmp_path) == expected


def test_what_stands_in_the_way_is_named_before_any_job_starts(tmp_path: Path) -> None:
    write(tmp_path, plugin=PLUGIN)
    module = load("plugin_of_mine", tmp_path / "plugin.py")
    with pytest.raises(HsmError, match=r"the global 'lock' of fails\(\) cannot be pickled"):
        values(module.fails, tmp_path)


def test_modules_that_an_interpreter_finds_are_named_only(tmp_path: Path) -> None:
    """Built in, frozen, in a package, in an archive, made by their parent when it is imported."""
    with zipfile.ZipFile(tmp_path / "modules.zip", "w") as archive:
        archive.writestr("helper_of_mine.py", "x = 1")
    sys.path.insert(0, str(tmp_path / "modules.zip"))
    import helper_of_mine  # type: ignore[import-not-found]

    write(
        tmp_path,
        plugin_of_mine="""
            import sys, types
            sys.modules[__name__ + ".part"] = part = types.ModuleType(__name__ + ".part")
        """,
        tells_of_another="""
            import json.tool, sys
            sys.modules[__name__] = json.tool
        """,
    )
    sys.path.insert(0, str(tmp_path))
    import plugin_of_mine

    importable = Importable()
    modules = (sys, json.decoder, numpy.random, helper_of_mine, plugin_of_mine, plugin_of_mine.part)
    importlib.import_module("tells_of_another")
    names = [
        "os",
        "posixpath",
        "importlib.util",
        "tells_of_another",
        *(module.__name__ for module in modules),
    ]
    assert [name for name in names if not importable.check(name)] == []
    assert importable.missing == set()


@pytest.mark.slow
def test_pytest_finds_by_a_path_what_it_tests(tmp_path: Path) -> None:
    """With `--import-mode=importlib` a test's module is in no directory of `sys.path`."""
    (tmp_path / "tests").mkdir()
    write(
        tmp_path,
        **{
            "tests/test_it": """
                from hsm import LocalManager

                def train(p):
                    assert p["x"] > 0
                    return p["x"] * 2

                def test_sweep(tmp_path):
                    with LocalManager(progress="none", start_method="spawn") as manager:
                        points = [{"x": 1}, {"x": 2}]
                        rows = manager.run(points, function=train, sweep_dir=tmp_path / "s")
                        assert [row["value"] for row in rows] == [2, 4]
            """
        },
    )

    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-n", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout

"""Jobs that run at once share the machine's CPUs: how many threads each has, and on which CPUs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.cli import Project
from helpers.hydra import run_python, succeed
from helpers.processes import START_METHODS, App, both_methods, first_row_fast, wait_for
from helpers.reliability import Recorder, points, source
from hsm.core.local import cpu_shares
from hsm.core.local.available_cpus import available_cpus, usable_cpus
from hsm.core.local.cpu_shares import CpuShares
from hsm.core.local.processes import loaded_pools
from hsm.core.local.processes.loaded_pools import LoadedPools
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.resolve import resolve_local

#: What a job has when two run at once.
HALF = max(1, available_cpus() // 2)
several_cpus = pytest.mark.skipif(len(usable_cpus()) < 2, reason="needs two CPUs")

#: Prints what the launching process sees, and then what each job does.
_APP = """
import json, os, sys
import threadpoolctl
import hsm
{imports}

def seen(params=None):
    found = threadpoolctl.threadpool_info()
    threads = {{each["internal_api"]: each["num_threads"] for each in found}}
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "HSM_CPUS")
    return [threads, [os.environ.get(name) for name in names]]

def job(params):
    {imports}
    return seen()

if __name__ == "__main__":
    manager = hsm.LocalManager(2, progress="none", **json.loads(sys.argv[1]))
    results = manager.run([{{"x": x}} for x in range(3)], function=job, sweep_dir="sweep")
    print(json.dumps([seen(), *(row["value"] for row in results)]))
"""


def run(folder: Path, imports: str, env: dict[str, str] | None = None, **settings: Any) -> Any:
    """What the launching process saw, and a list of what each job saw."""
    (folder / "app.py").write_text(_APP.format(imports=imports))
    done = succeed(run_python(folder, "app.py", json.dumps(settings), env=env))
    of_launcher, *of_jobs = json.loads(done.out.splitlines()[-1])
    return of_launcher, of_jobs


# --- the threads of libraries -----------------------------------------------------------------


@several_cpus
@pytest.mark.parametrize(
    ("start_method", "imports"),
    first_row_fast(
        ("fork", "import numpy"),
        ("spawn", "import numpy"),
        ("fork", "import sklearn.cluster"),
        ("spawn", "import sklearn.cluster"),
    ),
)
def test_libraries_have_their_share_of_threads(
    tmp_path: Path, start_method: str, imports: str
) -> None:
    pytest.importorskip(imports.split()[1])
    _, jobs = run(tmp_path, imports, start_method=start_method)
    for threads, variables in jobs:
        assert set(threads) == {"openblas", *(["openmp"] if "sklearn" in imports else [])}
        assert set(threads.values()) == {HALF}
        assert variables == [str(HALF)] * 4


@both_methods
def test_a_number_is_a_number_and_none_leaves_them(tmp_path: Path, start_method: str) -> None:
    pytest.importorskip("numpy")
    _, jobs = run(tmp_path, "import numpy", start_method=start_method, cpus=1)
    assert jobs == [[{"openblas": 1}, ["1"] * 4]] * 3
    (threads, _), jobs = run(
        tmp_path, "import numpy", start_method=start_method, cpus=None, resume=True, rerun="all"
    )
    assert jobs == [[threads, [None] * 4]] * 3


@both_methods
def test_what_the_user_set_stays(tmp_path: Path, start_method: str) -> None:
    """Also for the libraries that read OMP_NUM_THREADS for want of a variable of their own."""
    pytest.importorskip("numpy")
    env = {"OMP_NUM_THREADS": "3"}
    (threads, _), jobs = run(tmp_path, "import numpy", env, start_method=start_method, cpus=1)
    assert jobs == [[threads, ["3", None, "1", "1"]]] * 3


def test_a_number_that_the_app_set_is_not_raised(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    app = "import numpy; threadpoolctl.threadpool_limits(1)"
    _, jobs = run(tmp_path, app, start_method="fork", cpus=len(usable_cpus()))
    assert [threads for threads, _ in jobs] == [{"openblas": 1}] * 3


@several_cpus
@both_methods
def test_hydras_jobs_have_it_too(tmp_path: Path, start_method: str) -> None:
    pytest.importorskip("numpy")
    app = App(
        tmp_path,
        """
        import numpy
        import threadpoolctl

        def job(cfg):
            numpy.ones(1)
            return [each["num_threads"] for each in threadpoolctl.threadpool_info()]
        """,
    )
    done = app.run("job=range(3)", start_method=start_method, seconds=240)
    assert done.values == [[HALF]] * 3, done.screen
    assert f"each job has {HALF} of {available_cpus()} CPUs: OMP_NUM_THREADS" in done.screen


@pytest.mark.parametrize("warm", [True, False])
def test_scripts_have_it_whether_their_imports_are_done_once_or_not(
    project: Project, warm: bool
) -> None:
    pytest.importorskip("numpy")
    script = """\
import json, sys
import numpy, threadpoolctl
threads = [each["num_threads"] for each in threadpoolctl.threadpool_info()]
json.dump({"threads": threads}, open(sys.argv[1] + ".json", "w"))
"""
    project.write("fit.py", script)
    line = ("sweep", "x=0,1,2", "--script", "fit.py", "--args-style", "hydra", "--cpus", "1")
    project.here(*line, "--warm", str(warm).lower(), "--sweep-dir", "s", "--progress", "none")
    told = [json.loads((project.folder / f"x={x}.json").read_text()) for x in range(3)]
    assert told == [{"threads": [1]}] * 3


@pytest.mark.slow
def test_numba_that_has_begun_compiles_in_jobs(tmp_path: Path) -> None:
    """It refuses a NUMBA_NUM_THREADS that changes once its threads were started."""
    pytest.importorskip("numba")
    app = App(
        tmp_path,
        """
        import numba

        numba.config.THREADING_LAYER = "workqueue"

        def total(n):
            t = 0
            for i in numba.prange(n):
                t += i
            return t

        numba.njit(parallel=True)(total)(3)

        def job(cfg):
            compiled = numba.njit(parallel=True)(total)
            return [int(compiled(cfg.job)), numba.get_num_threads()]
        """,
    )
    done = app.run("job=range(3)", start_method="fork", cpus=1, seconds=240)
    assert done.values == [[0, 1], [0, 1], [1, 1]], done.screen


@pytest.mark.heavy
@pytest.mark.parametrize("start_method", START_METHODS)
def test_torch_has_its_share_of_threads(tmp_path: Path, start_method: str) -> None:
    pytest.importorskip("torch")
    app = App(
        tmp_path,
        """
        import torch

        DATA = torch.ones(500, 500)
        DATA @ DATA

        def job(cfg):
            DATA @ DATA
            return torch.get_num_threads()
        """,
    )
    done = app.run("job=range(3)", start_method=start_method, cpus=1, seconds=240)
    assert done.values == [1] * 3, done.screen


def test_torch_is_told_only_what_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [4]
    torch = SimpleNamespace(get_num_threads=lambda: threads[-1], set_num_threads=threads.append)
    monkeypatch.setitem(sys.modules, "torch", torch)
    for number in ("8", "2", "3", "none", "0", "-1", ""):
        LoadedPools().bound_job({"OMP_NUM_THREADS": number})
    assert threads == [4, 2]
    LoadedPools().bound_job({})
    assert threads == [4, 2]


@pytest.mark.parametrize("module", ["torch", "numba.core.config"])
def test_a_module_that_counts_threads_is_found(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setattr(loaded_pools, "_NAMES", ())
    for name in ("torch", "numba.core.config"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert not LoadedPools.find().are_any
    monkeypatch.setitem(sys.modules, module, SimpleNamespace())
    assert LoadedPools.find().are_any


def test_without_threadpoolctl_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numpy")
    found = LoadedPools.find()
    assert found.libraries
    assert found.are_any
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    pools = LoadedPools.find()
    assert pools.libraries == ()
    pools.bound({"OMP_NUM_THREADS": "1"})


# --- the environment, and what people are told --------------------------------------------------


@pytest.fixture
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_shares, "available_cpus", lambda: 16)
    monkeypatch.setattr(cpu_shares, "usable_cpus", lambda: list(range(16)))
    for name in [name for name in os.environ if name.endswith("_THREADS")]:
        monkeypatch.delenv(name)


def shares(**settings: Any) -> CpuShares:
    return CpuShares(resolve_local(settings).conf)


@pytest.mark.usefixtures("sixteen_cpus")
@pytest.mark.parametrize(
    ("settings", "jobs", "count"),
    [
        ({}, 100, "4"),
        ({}, 3, "5"),
        ({"max_parallel_jobs": 40}, 40, "1"),
        ({"cpus": 6}, 100, "6"),
        ({"cpus": None}, 100, None),
    ],
)
def test_all_variables_have_the_number(
    settings: dict[str, Any], jobs: int, count: str | None
) -> None:
    ours = shares(**settings)
    ours.expect(jobs)
    names = "OMP OPENBLAS MKL BLIS NUMBA NUMEXPR RAYON".split()
    every = {*(f"{name}_NUM_THREADS" for name in names), "VECLIB_MAXIMUM_THREADS", "HSM_CPUS"}
    assert ours.take({}).variables == (dict.fromkeys(every, count) if count else {})
    assert ours.variables() == ours.take({}).variables


@pytest.mark.usefixtures("sixteen_cpus")
def test_one_job_that_has_the_whole_machine_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = shares()
    assert ours.expect(1) is None
    assert ours.take({}).variables == {"HSM_CPUS": "16"}
    # But libraries do not know of a quota.
    monkeypatch.setattr(cpu_shares, "available_cpus", lambda: 3)
    ours = shares()
    assert ours.expect(1) is None
    assert ours.take({}).variables["OMP_NUM_THREADS"] == "3"


@pytest.mark.usefixtures("sixteen_cpus")
def test_jobs_that_come_one_by_one_have_less_as_more_run() -> None:
    ours = shares()
    taken = []
    for _ in range(6):
        ours.expect(1)
        taken.append(ours.take({}))
    assert [share.variables["HSM_CPUS"] for share in taken] == ["16", "8", "5", "4", "4", "4"]
    for share in taken:
        ours.give_back(share)
    assert ours.take({}).variables["HSM_CPUS"] == "4"


@pytest.mark.usefixtures("sixteen_cpus")
@pytest.mark.parametrize(
    ("user", "left"),
    [
        ({"OMP_NUM_THREADS"}, {"NUMBA", "RAYON", "VECLIB"}),
        ({"GOTO_NUM_THREADS"}, {"OMP", "MKL", "BLIS", "NUMBA", "NUMEXPR", "RAYON", "VECLIB"}),
        (
            {"MKL_NUM_THREADS", "RAYON_NUM_THREADS"},
            {"OMP", "OPENBLAS", "BLIS", "NUMBA", "NUMEXPR", "VECLIB"},
        ),
    ],
)
@pytest.mark.parametrize("is_of_job", [False, True])
def test_no_variable_of_the_users_is_touched(
    monkeypatch: pytest.MonkeyPatch, user: set[str], left: set[str], is_of_job: bool
) -> None:
    for name in user if not is_of_job else ():
        monkeypatch.setenv(name, "2")
    own = dict.fromkeys(user if is_of_job else (), "2")
    ours = shares(cpus=1, env=own)
    for variables in (ours.take(own).variables, ours.variables()):
        assert {name.partition("_")[0] for name in variables} == {*left, "HSM"}


@pytest.mark.usefixtures("sixteen_cpus")
def test_people_are_told_once_and_again_if_it_is_less(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = shares()
    said = "each job has 8 of 16 CPUs: OMP_NUM_THREADS and others are set (cpus=none leaves them)"
    assert ours.expect(2) == said
    assert ours.expect(2) is None
    assert ours.expect(4) == said.replace("8", "4")
    assert shares(cpus=None).expect(9) is None
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert shares().expect(2) == said.replace("OMP", "RAYON").replace(" and others are", " is")
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    assert shares().expect(2) is None


def test_the_line_comes_before_the_first_job_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_shares, "available_cpus", lambda: 4)
    monkeypatch.setattr(cpu_shares, "usable_cpus", lambda: [0, 1, 2, 3])
    heard: list[str] = []
    listener = Recorder()
    monkeypatch.setattr(listener, "message", heard.append)
    with source(listener) as made:
        made.submit_jobs(
            points(1, 2, 3),
            "s",
            tmp_path / "sweep",
            command=["sh", "-c", "echo $HSM_CPUS $MKL_NUM_THREADS"],
        )
    assert [text for text in heard if text.startswith("each job has 2 of 4 CPUs: ")]
    assert SweepPaths(tmp_path / "sweep").stdout(0).read_text() == "2 2\n"


# --- CPUs of their own ----------------------------------------------------------------------------

_UP = "touch up.{x}; while ! test -e up.0 || ! test -e up.1; do sleep 0.02; done; "


def allowed(params: Any) -> list[int]:
    """The CPUs of a job that has waited for the other one."""
    Path(f"up.{params['x']}").touch()
    wait_for(lambda: Path("up.0").exists() and Path("up.1").exists(), "the other job")
    return sorted(os.sched_getaffinity(0))


@several_cpus
@both_methods
def test_functions_at_once_have_cpus_of_their_own(start_method: str, tmp_path: Path) -> None:
    with source(start_method=start_method, cpu_affinity="share") as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path / "sweep", function=allowed)
        first, second = (made.result(job_id) for job_id in ids)
    assert len(first) == len(second) == len(usable_cpus()) // 2
    assert not set(first) & set(second)
    assert {*first, *second} <= set(usable_cpus())


@several_cpus
def test_commands_at_once_have_cpus_of_their_own(tmp_path: Path) -> None:
    told = "grep Cpus_allowed_list /proc/self/status"
    with source(cpu_affinity="share", cpus=1) as made:
        made.submit_jobs(points(0, 1), "s", tmp_path / "sweep", command=["sh", "-c", _UP + told])
    paths = SweepPaths(tmp_path / "sweep")
    lists = {paths.stdout(num).read_text().split()[1] for num in (0, 1)}
    assert len(lists) == 2
    assert lists <= {str(cpu) for cpu in usable_cpus()}


@pytest.mark.usefixtures("sixteen_cpus")
def test_cpus_come_back_and_stay_apart() -> None:
    ours = shares(cpu_affinity="share", max_parallel_jobs=3)
    ours.expect(9)
    taken = [ours.take({}) for _ in range(3)]
    assert [len(share.cpus) for share in taken] == [5, 5, 5]
    assert len({cpu for share in taken for cpu in share.cpus}) == 15
    ours.give_back(taken[1])
    assert not {*ours.take({}).cpus} & {*taken[0].cpus, *taken[2].cpus}


@pytest.mark.usefixtures("sixteen_cpus")
def test_without_a_number_of_threads_the_cpus_are_divided() -> None:
    ours = shares(cpu_affinity="share", max_parallel_jobs=2, cpus=None)
    ours.expect(2)
    first, second = ours.take({}), ours.take({})
    assert (first.variables, len(first.cpus), len(second.cpus)) == ({}, 8, 8)
    assert not {*first.cpus} & {*second.cpus}

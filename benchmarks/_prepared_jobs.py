"""The files of jobs: prepared by hsm, by hsm without its quick ways, and by Hydra alone.

Each way has a process of its own, and in it each job. Clocks stand still, and all work in a folder
of the same path, so that the files may be compared byte for byte.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import OmegaConf, open_dict

from _composing_apps import App
from _composing_stage import Stage
from _override_sets import Set
from hsm.hydra_app.hydra_job import HydraJob, JobArgument
from hsm.hydra_app.remembered_bases import NOTHING, remember_bases

log = logging.getLogger(__name__)

#: Parts of Hydra's config that a job needs; most apps leave them out.
_NEEDED = "hydra/job_logging=default"
_WAYS = ("hydra", "plain", "quick")
_NOON = 1_700_000_000.25
#: What a job writes to stdout and stderr goes to a file of this name and its number.
_TOLD = "told-"


def with_logging(app: App) -> App:
    """Return the app with all that its jobs need."""
    if app.name == "hydra":
        return replace(app, masters=("config", "config hydra/job_logging=default"))
    return replace(app, masters=tuple(f"{text} {_NEEDED}" for text in app.masters))


def task(config: Any) -> int:
    """An app: it notes all that it sees, and every fifth one fails."""
    log.info("its config:\n%s", OmegaConf.to_yaml(config))
    of_hydra = HydraConfig.get()
    seen = [OmegaConf.to_yaml(of_hydra), os.getcwd(), repr(copy.deepcopy(config))]
    seen += [
        type(config).__name__,
        repr(OmegaConf.is_readonly(config)),
        os.environ.get("FUZZ_SET", ""),
    ]
    Path(of_hydra.runtime.output_dir, "seen.txt").write_text(
        "\n".join(seen), encoding="utf-8", errors="surrogatepass"
    )
    if of_hydra.job.num % 5 == 4:
        raise RuntimeError("a job that fails")
    return 0


def compare_jobs(stage: Stage, sets: Sequence[Set]) -> tuple[str | None, int]:
    """Run a job of each set in every way; return what differs, and how many files there were."""
    folder = stage.folder.parent / "run"
    trees = []
    for way in _WAYS:
        folder.mkdir()
        _in_a_child(lambda way=way: _run_jobs(stage, sets, way, folder))  # type: ignore[misc]
        trees.append(_tree(folder))
        shutil.rmtree(folder)
    hydra, plain, quick = trees
    # What a job of hsm's tells of errors is its own: the same with and without the quick ways.
    found = _difference(_without_told(plain), _without_told(hydra)) or _difference(quick, plain)
    return found, len(hydra)


def _without_told(tree: dict[str, Any]) -> dict[str, Any]:
    return {path: each for path, each in tree.items() if not path.startswith(_TOLD)}


def _difference(mine: dict[str, Any], its: dict[str, Any]) -> str | None:
    for path in sorted(mine.keys() | its.keys()):
        if mine.get(path) != its.get(path):
            return f"{path}: {mine.get(path)!r:.900}, not {its.get(path)!r:.900}"
    return None


def _in_a_child(action: Callable[[], None]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.waitpid(pid, 0)


def _run_jobs(stage: Stage, sets: Sequence[Set], way: str, folder: Path) -> None:
    os.environ.pop("HSM_COMPOSE", None)
    if way != "quick":
        os.environ["HSM_COMPOSE"] = "plain"
    os.environ["HSM_SWEEP_DIR"] = str(folder / "sweep")
    os.chdir(folder)
    time.time = lambda: _NOON
    loader = stage.new_loader(frozen=True)
    if way == "quick":
        remember_bases(loader)
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    jobs = {}
    for master in {one.master for one in sets}:
        with stage.process(next(one for one in sets if one.master == master)):
            jobs[master] = HydraJob(context, copy.deepcopy(stage.masters[master]), task)
    for one in (*sets, *sets):  # as sweepers that validate do, and hsm for the others
        with stage.process(one):
            try:
                loader.load_sweep_config(stage.masters[one.master], stage.overrides(one))
            except Exception:
                continue
    for num, one in enumerate(sets):
        _in_a_child(lambda num=num, one=one: _run_job(stage, jobs[one.master], num, one, way))  # type: ignore[misc]


def _run_job(stage: Stage, job: HydraJob, num: int, one: Set, way: str) -> None:
    output = os.open(f"{_TOLD}{num}", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    overrides, job_id = stage.overrides(one), f"sweep_{num}"
    with stage.process(one):
        if way != "hydra":
            of_hydra = list(job.config.hydra.overrides.hydra)
            outcome = job(JobArgument(num, job_id, overrides, of_hydra, NOTHING))
            print(type(outcome.error), outcome.error, outcome.exit_code, outcome.value)
            return
        context = job.hydra_context
        config = context.config_loader.load_sweep_config(job.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = job_id, num
        HydraConfig.instance().set_config(config)
        run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)


def _tree(folder: Path) -> dict[str, Any]:
    """What lies in a folder: kinds, modes, and contents or where links lead."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: Any = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (oct(status.st_mode), content)
    return found

"""What the tests of the Hydra launcher share: real apps on disk, run the way a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from helpers.processes import child_environment

DEADLINE = 120.0  # seconds; far above what any app here takes: it turns a hang into a failure


@dataclass(frozen=True)
class Finished:
    """A command that has ended, with what it wrote to its two streams."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def clean_environment(**extra: str) -> dict[str, str]:
    """An environment whose TMPDIR is the system's."""
    env = child_environment()
    env.pop("TMPDIR", None)
    return {**env, **extra}


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write `files`, relative path to (indented) content, below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content), encoding="utf-8")


def run_python(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Finished:
    """Run this interpreter with `args` in `folder`, its output into pipes."""
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=clean_environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    return Finished(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


def launcher_args(start_method: str = "auto", jobs: int = 2) -> list[str]:
    """The overrides that choose hsm_local."""
    return [
        "hydra/launcher=hsm_local",
        f"hydra.launcher.start_method={start_method}",
        f"hydra.launcher.max_parallel_jobs={jobs}",
    ]


def run_sweep(
    folder: Path,
    *overrides: str,
    start_method: str = "auto",
    jobs: int = 2,
    script: Sequence[str] = ("train.py",),
    sweep_dir: str = "sweep",
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a multirun of `script` in `folder` through hsm_local into ``folder/sweep_dir``."""
    return run_python(
        folder,
        *script,
        "-m",
        *launcher_args(start_method, jobs),
        f"hydra.sweep.dir={sweep_dir}",
        *overrides,
        env=env,
    )


def succeed(done: Finished) -> Finished:
    """`done`, once it is known to have ended well."""
    assert done.code == 0, f"exit code {done.code}\n{done.out}\n{done.err}"
    return done


def read_json(path: Path) -> Any:
    """The JSON document in `path`."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_journal(sweep_dir: Path) -> list[dict[str, Any]]:
    """Every line of a sweep's journal, each of which must be a JSON object."""
    lines = (sweep_dir / ".hsm" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert all(isinstance(event, dict) for event in events)
    return events


def ends(sweep_dir: Path) -> dict[int, dict[str, Any]]:
    """The end event of each job in a sweep's journal, by number."""
    return {e["job"]: e for e in read_journal(sweep_dir) if e["event"] == "end"}


# Notes what it sees of its process, then spoils everything that the next job could inherit.
PROBE = """
    import json, multiprocessing, os, random, resource, signal, sys, tempfile, threading
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig

    try:
        import numpy
    except ImportError:
        numpy = None

    print("import banner")
    COUNTER = 0
    DRAWN_AT_IMPORT = random.random(), tempfile.gettempdir()


    def name_of(handler):
        return getattr(handler, "__name__", str(handler))


    def descriptors(hide):
        found = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink("/proc/self/fd/" + fd)
            except OSError:
                continue  # the one that listed them
            if int(fd) > 2:
                found.append(os.path.basename(target) if target.startswith(hide) else target)
        return sorted(found)


    def facts(hide):
        main_module = sys.modules["__main__"]
        return {
            "argv0": sys.argv[0],
            "sys_path": sys.path,
            "name": __name__,
            "file": __file__,
            "main_file": main_module.__file__,
            "main_is_this": main_module.__dict__ is globals(),
            "spec": str(main_module.__spec__),
            "flags": str(sys.flags),
            "executable": sys.executable,
            "cwd": os.getcwd(),
            "counter": COUNTER,
            "environ": dict(os.environ),
            "umask": os.umask(os.umask(0)),
            "nice": os.nice(0),
            "cpus": sorted(os.sched_getaffinity(0)),
            "limits": {
                n: resource.getrlimit(getattr(resource, n))
                for n in dir(resource)
                if n.startswith("RLIMIT_")
            },
            "handlers": {s.name: name_of(signal.getsignal(s)) for s in signal.valid_signals()
                         if isinstance(s, signal.Signals)},
            "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "wakeup_fd": signal.set_wakeup_fd(-1),
            "in_main_thread": threading.current_thread() is threading.main_thread(),
            "thread": threading.current_thread().name,
            "threads": threading.active_count(),
            "mp_name": multiprocessing.current_process().name,
            "mp_daemon": multiprocessing.current_process().daemon,
            "recursion": sys.getrecursionlimit(),
            "excepthook": name_of(sys.excepthook),
            "encodings": [s.encoding.lower() for s in (sys.stdin, sys.stdout, sys.stderr)],
            "stdout_is_original": sys.stdout is sys.__stdout__,
            "fds": descriptors(hide),
            "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
        }


    def per_job():
        path = Path(tempfile.mkdtemp()) / "left-behind"
        path.write_text("x")
        return {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "sid": os.getsid(0),
            "pgid": os.getpgid(0),
            "streams": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)],
            "stdin": sys.stdin.read(),
            "gettempdir": tempfile.gettempdir(),
            "tmpdir_is_dir": os.path.isdir(os.environ.get("TMPDIR", "")),
            "left_behind": str(path),
            "random": [random.random() for _ in range(3)],
            "numpy": numpy and numpy.random.random(3).tolist(),
        }


    def spoil():
        global COUNTER
        COUNTER += 1
        random.seed(1)
        if numpy:
            numpy.random.seed(1)
        os.environ["LEAK"] = "leaked"
        os.environ.pop("HOME", None)
        sys.path.insert(0, "/leaked")
        sys.argv[0] = "leaked"
        sys.setrecursionlimit(4321)
        sys.excepthook = print
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o077)
        os.chdir("/")


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        output_dir = HydraConfig.get().runtime.output_dir
        seen = {"same": facts(output_dir + "/"), "own": per_job()}
        Path(output_dir, "seen.json").write_text(json.dumps(seen))
        spoil()


    if __name__ == "__main__":
        before = facts("/nowhere")
        main()
        Path("launcher.json").write_text(json.dumps([before, facts("/nowhere"), os.getpid()]))
"""


def run_probe(folder: Path, start_method: str) -> dict[str, Any]:
    """What the probe saw: as ``plain`` script, in each of a sweep's ``jobs``, in the ``launcher``.

    The jobs run one at a time, so that each starts after the one before has spoiled what it could.
    """
    write_files(folder, {"train.py": PROBE, "tmp/keep": ""})
    plain_env = {"TMPDIR": str(folder / "tmp")}
    succeed(run_python(folder, "train.py", "hydra.run.dir=plain", env=plain_env))
    done = succeed(run_sweep(folder, "+n=0,1,2", start_method=start_method, jobs=1))
    return {
        "folder": folder,
        "start_method": start_method,
        "plain": read_json(folder / "plain" / "seen.json"),
        "jobs": [read_json(folder / "sweep" / str(n) / "seen.json") for n in range(3)],
        "launcher": read_json(folder / "launcher.json"),
        "out": done.out,
    }

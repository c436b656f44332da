"""The same faults under hsm and under what people use instead, side by side.

    python benchmarks/faults.py --json faults.json

Six jobs, two at a time where that can be asked for; job 1 misbehaves, or the process that was
started gets a signal. For each contender and fault:

    done    how many of the other five jobs did their work
    rc      the exit code ("-9": died of that signal; "none": it did not end by itself)
    s       seconds until the command ended
    left    processes that were left five seconds after its end

For "killed at half" the command is killed when three jobs are done, and run again with whatever it
has for resuming: "again" is how many of those three were run once more.
Contenders that are not installed are left out. Linux only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from _marked import VARIABLE, kill_marked, marked_processes, new_mark

HERE = Path(__file__).resolve().parent
JOBS = 6
#: Seconds: for a command to end by itself, for its processes to be gone, and a job's time limit.
_LONGEST, _PATIENCE, _TIMEOUT = 100.0, 5.0, 3
FAULTS = (
    "raises",
    "exits with 3",
    "os._exit(7)",
    "segmentation fault",
    "returns a lock",
    "hangs",
    "leaves a daemon",
    "fails twice",
)
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
HALF = "killed at half"


@dataclass(frozen=True)
class Contender:
    """Something that runs jobs in parallel.

    Attributes:
        name: for the table.
        launcher: of Hydra; None for GNU parallel, which runs commands.
        bound: the setting of Hydra's launcher that bounds the jobs in parallel.
        timeout, retries, resume: what makes it do that; empty if it does not know how.
        package: what has to be installed.
    """

    name: str
    launcher: str | None
    bound: str = ""
    timeout: tuple[str, ...] = ()
    retries: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    package: str = ""

    def is_installed(self) -> bool:
        """Whether it can be run here."""
        if self.launcher is None:
            return shutil.which("parallel") is not None
        try:
            return not self.package or importlib.util.find_spec(self.package) is not None
        except ModuleNotFoundError:
            return False

    def command(self, fault: str, *options: str) -> list[str]:
        """The command line of the sweep."""
        numbers = list(map(str, range(JOBS)))
        if self.launcher is None:
            script = [sys.executable, str(HERE / "apps" / "faults_job.py"), fault, "{}"]
            jobs = ["--will-cite", "--quote", "--jobs", "2", "--joblog", "joblog"]
            return ["parallel", *jobs, *options, *script, ":::", *numbers]
        quoted = f"+fault='{fault}'"
        words = [
            sys.executable,
            str(HERE / "apps" / "faults_app.py"),
            "-m",
            "hydra.sweep.dir=sweep",
        ]
        bound = [f"hydra.launcher.{self.bound}=2"] if self.bound else []
        numbered = f"+num={','.join(numbers)}"
        return [*words, f"hydra/launcher={self.launcher}", *bound, *options, quoted, numbered]


CONTENDERS = (
    Contender("basic", "basic"),
    Contender(
        "joblib",
        "joblib",
        "n_jobs",
        timeout=(f"hydra.launcher.timeout={_TIMEOUT}",),
        package="hydra_plugins.hydra_joblib_launcher",
    ),
    Contender(
        "submitit_local",
        "submitit_local",
        timeout=("hydra.launcher.timeout_min=1",),  # it counts in minutes
        package="hydra_plugins.hydra_submitit_launcher",
    ),
    Contender(
        "GNU parallel",
        None,
        timeout=("--timeout", str(_TIMEOUT)),
        retries=("--retries", "3"),
        resume=("--resume-failed",),
    ),
    Contender(
        "hsm_local",
        "hsm_local",
        "max_parallel_jobs",
        timeout=(f"hydra.launcher.timeout={_TIMEOUT}",),
        retries=("hydra.launcher.max_retries=2", "hydra.launcher.retry_delay=0.1"),
        resume=("hydra.launcher.resume=true",),
        package="hydra_plugins.hsm_local_launcher",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep; see the module's docstring.

    Attributes:
        repaired: job 1 did its work as well, for a fault that a retry mends.
        again: jobs that were done before the kill and were run again; None for other faults.
    """

    done: int
    code: int | None
    seconds: float
    left: int
    repaired: bool = False
    again: int | None = None

    def cell(self, fault: str) -> str:
        """The outcome in a table."""
        code = "none" if self.code is None else str(self.code)
        parts = [f"rc {code}", f"{self.seconds:.1f} s", f"left {self.left}"]
        if fault in FAULTS:
            parts.insert(0, f"{self.done}/5" + (" and job 1" if self.repaired else ""))
        if self.again is not None:
            parts = [f"again {self.again}/3", f"{self.done} of 6 done", f"left {self.left}"]
        return ", ".join(parts)


class Sweep:
    """One command in a directory of its own."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder, self.mark = folder, new_mark()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HSM_", "HYDRA_"))}
        path = os.pathsep.join(filter(None, [str(HERE), env.get("PYTHONPATH")]))
        self._began = time.monotonic()
        with (folder / "screen").open("ab") as screen:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**env, "PYTHONPATH": path, VARIABLE: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )

    def ran(self) -> Counter[int]:
        """How often each job did its work."""
        path = self.folder / "ran"
        return Counter(map(int, path.read_text().split())) if path.exists() else Counter()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, or the command ends, or too long."""
        end = time.monotonic() + _LONGEST
        while not condition() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)

    def finish(self) -> tuple[int | None, float, int]:
        """Exit code, seconds until the end, and processes left; whatever is left is killed."""
        try:
            code: int | None = self.process.wait(_LONGEST)
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - self._began
        left = 0
        if code is not None:
            end = time.monotonic() + _PATIENCE
            while (left := len(marked_processes(self.mark))) and time.monotonic() < end:
                time.sleep(0.1)
        kill_marked(self.mark)
        self.process.wait()
        return code, seconds, left


def misbehaving_job(contender: Contender, fault: str, folder: Path) -> Outcome | None:
    """Job 1 commits `fault`; None if that is not possible for a command."""
    if contender.launcher is None and fault == "returns a lock":
        return None
    options = {"hangs": contender.timeout, "fails twice": contender.retries}.get(fault, ())
    sweep = Sweep(folder, contender.command(fault, *options))
    code, seconds, left = sweep.finish()
    ran = sweep.ran()
    return Outcome(len(ran.keys() - {1}), code, seconds, left, fault == "fails twice" and 1 in ran)


def signalled(contender: Contender, name: str, folder: Path) -> Outcome:
    """The command's process alone gets a signal while jobs run."""
    sweep = Sweep(folder, contender.command("signal"))
    sweep.wait_for(lambda: any(folder.glob("started-*")))
    sweep.process.send_signal(getattr(signal, name))
    code, seconds, left = sweep.finish()
    return Outcome(0, code, seconds, left)


def killed_at_half(contender: Contender, folder: Path) -> Outcome:
    """SIGKILL when three jobs are done; then the command again, as it resumes."""
    sweep = Sweep(folder, contender.command("half"))
    sweep.wait_for(lambda: len(sweep.ran()) >= 3)
    sweep.wait_for(lambda: len(list(folder.glob("started-*"))) > 3)
    time.sleep(0.5)  # for what keeps a record to have kept it
    before = set(sweep.ran())
    sweep.process.kill()
    _, _, left = sweep.finish()
    (folder / "go").touch()
    again = Sweep(folder, contender.command("half", *contender.resume))
    code, seconds, _ = again.finish()
    ran = again.ran()
    return Outcome(len(ran), code, seconds, left, again=sum(ran[num] > 1 for num in before))


def measure(contender: Contender, fault: str) -> Outcome | None:
    """One contender with one fault, in a fresh directory."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        if fault == HALF:
            return killed_at_half(contender, folder)
        if fault in SIGNALS:
            return signalled(contender, fault, folder)
        return misbehaving_job(contender, fault, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run all that is asked for and print a table in Markdown."""
    every = (*FAULTS, *SIGNALS, HALF)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", default=",".join(every), help="comma-separated; default all")
    parser.add_argument("--contenders", help="comma-separated names; default all installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes to FILE")
    options = parser.parse_args()
    contenders = [one for one in CONTENDERS if one.is_installed()]
    if options.contenders:
        contenders = [one for one in contenders if one.name in options.contenders.split(",")]
    outcomes: dict[str, dict[str, Outcome | None]] = {}
    for fault in options.faults.split(","):
        outcomes[fault] = {}
        for contender in contenders:
            outcome = outcomes[fault][contender.name] = measure(contender, fault)
            shown = "not possible" if outcome is None else outcome.cell(fault)
            print(f"{fault}, {contender.name}: {shown}", file=sys.stderr, flush=True)
    print("| fault |", " | ".join(one.name for one in contenders), "|")
    print("| --- |", " | ".join("---" for _ in contenders), "|")
    for fault, row in outcomes.items():
        cells = ["" if outcome is None else outcome.cell(fault) for outcome in row.values()]
        print(f"| {fault} |", " | ".join(cells), "|")
    if options.json is not None:
        plain = {
            fault: {name: None if one is None else asdict(one) for name, one in row.items()}
            for fault, row in outcomes.items()
        }
        options.json.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

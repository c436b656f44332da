"""A script whose imports are done once sees, shows and leaves what it does on its own."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.processes import first_fast

#: Prints all that a script can learn of how it was started; does what ends a script otherwise.
_FACTS = '''\
"""Its documentation."""
from __future__ import annotations
import argparse, atexit, faulthandler, gc, gzip, inspect, json, locale, logging, os, pickle, random
import resource, signal, subprocess, sys, tempfile, threading, time, traceback, warnings
import numpy as np
import multiprocessing, neighbour

rate: int = 1
class Model:
    """It can be pickled."""
    def __eq__(self, other): return type(self) is type(other)
class Late:
    def __del__(self): print("late", __name__)
late = Late()
def look(path):
    return __file__, sys.argv, __name__, sys.path == path
def depth(count=0):
    try:
        return depth(count + 1)
    except RecursionError:
        return count
def status():
    with open("/proc/self/status") as file:
        named = dict(line.split(":\\t", 1) for line in file)
    # Not the two signals that glibc itself uses: posix_spawn has them ignored.
    signals = [int(named[name], 16) & 0x7fffffff for name in ("SigIgn", "SigCgt", "SigBlk")]
    return named["Name"], named["Threads"], signals
def stream(file):
    own = "line_buffering", "write_through", "encoding", "errors", "newlines", "name", "mode"
    return type(file).__name__, [getattr(file, name, None) for name in own], file.seekable()
def facts():
    import __main__
    return {
        "globals": {name: repr(value) for name, value in globals().items()},
        "names": [__name__, __file__, __spec__, repr(__builtins__), __cached__, repr(__loader__)],
        "main": __main__ is sys.modules["__main__"] and __main__.facts is facts,
        "words": [sys.argv, sys.orig_argv, type(sys.argv).__name__, sys.warnoptions, sys._xoptions],
        "path": sys.path, "flags": repr(sys.flags), "exe": [sys.executable, sys.prefix],
        "hooks": [repr(sys.excepthook), repr(sys.displayhook), sys.gettrace(), sys.getprofile()],
        "hidden": [type(os.environ).__name__, repr(warnings._showwarnmsg), repr(sys.meta_path)],
        "pickled": pickle.loads(pickle.dumps(Model())) == Model(),
        "source": [inspect.getsource(Model), inspect.getsource(facts), facts.__code__.co_filename],
        "stack": [frame.filename for frame in inspect.stack()], "depth": depth(),
        "signals": [repr(signal.getsignal(number)) for number in range(1, 32)], "status": status(),
        "blocked": repr(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "faults": faulthandler.is_enabled(), "stdin": sys.stdin.read(),
        "streams": [stream(each) for each in (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__)],
        "filters": repr(warnings.filters),
        "environment": {name: value for name, value in os.environ.items()},
        "cwd": os.getcwd(), "umask": os.umask(0o22), "locale": locale.setlocale(locale.LC_ALL),
        "limits": [resource.getrlimit(each) for each in range(8)], "nice": os.nice(0),
        "files": sorted(os.listdir("/proc/self/fd")), "is_leader": os.getpgrp() == os.getpid(),
        "own_session": os.getsid(0) == os.getppid(), "time": time.get_clock_info("time").monotonic,
        "threads": [repr(type(each)) for each in threading.enumerate()],
        "main_thread": threading.main_thread().native_id == os.getpid(),
        "collects": [gc.isenabled(), gc.get_threshold()], "limit": sys.getrecursionlimit(),
        "logging": repr(logging.root.handlers), "temporary": tempfile.gettempdir(),
        "prog": argparse.ArgumentParser().prog, "neighbour": [neighbour.__name__, neighbour.SEEN],
        "process": [multiprocessing.current_process().name, multiprocessing.parent_process()],
        "child": subprocess.run([sys.executable, "-c", "import sys; print(sys.argv)"],
            capture_output=True, text=True).stdout,
    }
def fail():
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error
def draw():
    return [random.random(), np.random.rand(), np.random.default_rng().random(), os.urandom(4)[0]]
def end():
    def leave():
        time.sleep(0.1)
        print("thread", flush=True)
    atexit.register(print, "first hook")
    atexit.register(logging.warning, "second hook")
    threading.Thread(target=leave).start()
    threading.Thread(target=time.sleep, args=[60], daemon=True).start()
    open("left.txt", "w").write("flushed")
    global held
    held = open(os.environ["HSM_JOB_DIR"] + "/held.txt", "w")
    held.write("flushed")
    neighbour.held = gzip.open(os.environ["HSM_JOB_DIR"] + "/held.gz", "wt")
    neighbour.held.write("closed")
    print("no newline", end="")
def show():
    traceback.print_stack()
    faulthandler.dump_traceback()
    warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    warnings.warn("caller", UserWarning, stacklevel=2)
    logging.getLogger("a").warning("logged")
    print(__annotations__)
if __name__ == "__main__":
    what = dict(word.split("=", 1) for word in sys.argv[1:])["do"]
    if what == "facts":
        print(json.dumps(facts()))
        print(sorted(sys.modules), file=sys.stderr)
    elif what in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(what).Pool(1) as pool:
            print(pool.map(look, [sys.path]))
    elif what == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    elif what == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    elif what == "draw":
        print(json.dumps([draw(), draw()]))
    else:
        exec({"raise": "fail()", "text": "sys.exit('bye')", "code": "sys.exit(3)", "show": "show()",
            "none": "sys.exit()", "exit": "print(1); os._exit(7)", "end": "end()"}[what])
'''
_WAYS = first_fast(
    ("facts", "raise", "end", "draw"),
    ("facts", "text", "code", "none", "exit", "end", "show", "interrupt", "terminate", "draw"),
    ("facts", "fork", "spawn", "forkserver", "end", "draw"),
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def _swept(project: Project, name: str, *options: str, **env: str) -> dict[int, tuple[Any, ...]]:
    """Sweep; per job: exit code, signal, what it printed."""
    project.hsm("sweep", *options, "--sweep-dir", name, "--parallel-jobs", "2", code=None, **env)
    folder = project.folder / name
    texts = {path.name: _masked(path.read_text(), name) for path in folder.glob(".hsm/logs/*")}
    ends = map(json.loads, (folder / ".hsm" / "journal.jsonl").read_text().splitlines())
    return {
        end["job"]: (
            end.get("exit_code"),
            end.get("signal"),
            texts[f"{end['job']}.out"],
            texts[f"{end['job']}.err"],
        )
        for end in ends
        if end["event"] == "end"
    }


def _masked(text: str, name: str) -> str:
    """What a job printed, without what no two jobs have in common."""
    random = r"0x[0-9a-f]+|fit-\d+-\d+-\w+|(?<=hsm-)\w+(-\w+)?(?=/|-fit)|(?<=Thread )0x\w+"
    return re.sub(rf"\b{name}\b", "NAME", re.sub(random, "RANDOM", text))


def _facts(ended: tuple[Any, ...]) -> tuple[dict[str, Any], set[str]]:
    return json.loads(ended[2].splitlines()[0]), set(eval(ended[3]))


@pytest.mark.parametrize("ways", _WAYS)
def test_it_sees_shows_and_leaves_what_it_does_cold(
    project: Project, ways: tuple[str, ...]
) -> None:
    pytest.importorskip("numpy")
    project.write("src/fit.py", _FACTS)
    project.write("src/neighbour.py", "import sys\nSEEN = [sys.argv[0], __name__]\n")
    sweep = ("--script", "src/fit.py", "--args-style", "hydra", f"do={','.join(ways)}")
    env = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    cold = _swept(project, "cold", *sweep, "--warm", "false", **env)
    warm = _swept(project, "warm", *sweep, "--warm", "auto", **env)
    assert len(cold) == len(ways)
    (facts, modules), (expected, needed) = _facts(warm.pop(0)), _facts(cold.pop(0))
    assert facts == expected
    assert needed <= modules
    assert "hsm.core.local.warm_server" in modules - needed  # or it was not warm
    drawn = [json.loads(jobs.pop(len(ways) - 1)[2].splitlines()[0]) for jobs in (cold, warm)]
    assert len({value for way in drawn for drawing in way for value in drawing[:3]}) == 12
    assert warm == cold
    for name in ("cold", "warm"):
        job_dir = project.folder / name / str(ways.index("end"))
        assert (job_dir / "held.txt").read_text() == "flushed"
        assert gzip.decompress((job_dir / "held.gz").read_bytes()) == b"closed"

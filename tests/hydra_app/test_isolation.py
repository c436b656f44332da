"""What a job's process is like: what `python train.py` would see, and nothing of another job.

Most tests read what one app noted in each of three jobs that ran one after the other, each of which
ended by spoiling all it could for the next (see `helpers.hydra.PROBE`).
"""

from __future__ import annotations

import shutil
import signal
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from helpers.hydra import (
    ends,
    read_journal,
    read_json,
    run_probe,
    run_python,
    run_sweep,
    succeed,
    write_files,
)
from helpers.processes import START_METHODS, both_methods


@pytest.fixture(scope="module", params=START_METHODS)
def probe(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    return run_probe(tmp_path_factory.mktemp("probe"), request.param)


# What is neither the job's own nor compared by a test of its own below.
SAME_AS_PLAIN = [
    *("argv0", "sys_path", "name", "file", "main_file", "spec", "counter"),
    *("flags", "executable", "cwd", "umask", "nice", "cpus", "limits", "recursion", "excepthook"),
    *("handlers", "mask", "wakeup_fd", "in_main_thread", "thread", "threads"),
    *("mp_name", "mp_daemon", "children", "encodings", "stdout_is_original", "fds"),
]


@pytest.mark.parametrize("fact", SAME_AS_PLAIN)
def test_every_job_sees_what_a_plain_run_sees(probe: dict[str, Any], fact: str) -> None:
    seen = [job["same"][fact] for job in probe["jobs"]]
    assert seen == [probe["plain"]["same"][fact]] * 3


def test_the_script_is_the_main_module(probe: dict[str, Any]) -> None:
    if probe["start_method"] == "spawn":
        pytest.skip(
            "a fresh interpreter gets the script's functions and what they use, not its module"
        )
    assert all(job["same"]["main_is_this"] for job in probe["jobs"])


def test_the_environment_is_the_plain_one_plus_hsm_tmpdir_and_threads(
    probe: dict[str, Any],
) -> None:
    plain = {k: v for k, v in probe["plain"]["same"]["environ"].items() if k != "TMPDIR"}
    for job in probe["jobs"]:
        environ = job["same"]["environ"]
        assert environ["TMPDIR"]
        ours = {k for k in environ if k.startswith("HSM_") or k == "TMPDIR"}
        ours |= {k for k in environ if k.endswith("_THREADS") and k not in plain}
        assert {k: v for k, v in environ.items() if k not in ours} == plain


def test_the_launcher_sees_nothing_of_its_jobs(probe: dict[str, Any]) -> None:
    before, after, _ = probe["launcher"]
    assert after == before


def test_what_the_script_prints_at_import_is_not_repeated(probe: dict[str, Any]) -> None:
    assert probe["out"].count("import banner") == 1


def test_hsm_variables_name_the_job(probe: dict[str, Any]) -> None:
    sweep_dir = probe["folder"] / "sweep"
    events = read_journal(sweep_dir)
    ids = {job["job"]: job["id"] for e in events if e["event"] == "submit" for job in e["jobs"]}
    for num, job in enumerate(probe["jobs"]):
        environ = job["same"]["environ"]
        expected = {
            "HSM_SWEEP_ID": events[0]["sweep_id"],
            "HSM_JOB_ID": ids[num],
            "HSM_JOB_NUM": str(num),
            "HSM_ATTEMPT": "1",
            "HSM_SWEEP_DIR": str(sweep_dir),
            "HSM_JOB_DIR": str(sweep_dir / str(num)),
        }
        assert {k: environ.get(k) for k in expected} == expected


def test_each_job_has_a_process_and_a_process_group_of_its_own(probe: dict[str, Any]) -> None:
    own = [job["own"] for job in probe["jobs"]]
    assert len({job["pid"] for job in own} | {probe["launcher"][2]}) == 4
    assert all(job["pgid"] == job["pid"] != job["sid"] for job in own)
    assert [ends(probe["folder"] / "sweep")[n]["state"] for n in range(3)] == ["COMPLETED"] * 3


def test_standard_streams_are_null_and_the_jobs_logs(probe: dict[str, Any]) -> None:
    for job in probe["jobs"]:
        null, *pipes = job["own"]["streams"]
        assert null == "/dev/null"
        assert [pipe[:5] for pipe in pipes] == ["pipe:"] * 2
        assert pipes[0] != pipes[1]
        assert job["own"]["stdin"] == ""


def test_tmpdir_is_short_in_use_and_removed_afterwards(probe: dict[str, Any]) -> None:
    folders = []
    for job in probe["jobs"]:
        tmpdir = job["same"]["environ"]["TMPDIR"]
        folders.append(tmpdir)
        assert len(tmpdir) < 40
        assert job["own"]["tmpdir_is_dir"]
        # The script had asked for the temporary directory at import, which caches the answer.
        assert job["own"]["gettempdir"] == tmpdir
        assert job["own"]["left_behind"].startswith(tmpdir + "/")
        assert not Path(tmpdir).exists()
    assert len(set(folders)) == 3


@pytest.mark.parametrize("source", ["random", "numpy"])
def test_jobs_that_never_seed_draw_different_numbers(probe: dict[str, Any], source: str) -> None:
    if source == "numpy":
        pytest.importorskip("numpy")
    streams = [tuple(job["own"][source]) for job in (*probe["jobs"], probe["plain"])]
    assert len(set(streams)) == 4


SEEDED = """
    import json, random
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig

    random.seed(7)
    FIRST = random.random()
    if {numpy}:
        import numpy
        numpy.random.seed(7)
        numpy.random.random()


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        draws = [random.random() for _ in range(3)] + [FIRST]
        if {numpy}:
            draws += numpy.random.random(3).tolist()
        Path(HydraConfig.get().runtime.output_dir, "seen.json").write_text(json.dumps(draws))


    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
@both_methods
def test_a_script_that_seeds_at_import_keeps_its_seed(tmp_path: Path, start_method: str) -> None:
    has_numpy = find_spec("numpy") is not None
    write_files(tmp_path, {"train.py": SEEDED.format(numpy=has_numpy)})
    succeed(run_python(tmp_path, "train.py", "hydra.run.dir=plain"))
    succeed(run_sweep(tmp_path, "+n=0,1,2", start_method=start_method))
    plain = read_json(tmp_path / "plain" / "seen.json")
    assert len(plain) == (7 if has_numpy else 4)
    for num in range(3):
        assert read_json(tmp_path / "sweep" / str(num) / "seen.json") == plain


HANDLERS = """
    import os, signal
    import hydra

    CAUGHT = []


    def note(number, frame):
        CAUGHT.append(number)


    signal.signal(signal.SIGUSR1, note)
    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return CAUGHT


    if __name__ == "__main__":
        main()
"""


def test_signal_handlers_of_the_script_hold_in_every_job(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": HANDLERS})
    succeed(run_sweep(tmp_path, "+n=0,1", start_method="fork"))
    expected = [signal.SIGUSR1, signal.SIGTERM]
    assert [end["value"] for end in ends(tmp_path / "sweep").values()] == [expected, expected]


# One job for each way in which a process has work left when its main function returns.

TEMPORARY = """
    import os, socket
    from pathlib import Path

    import hydra


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        path = os.path.join(os.environ["TMPDIR"], "socket-with-a-name-of-a-usual-length")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        return os.environ["TMPDIR"]


    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
def test_tmpdir_is_kept_without_clean_up(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": TEMPORARY})
    succeed(run_sweep(tmp_path, "hydra.launcher.cleanup_on_exit=false"))
    kept = Path(ends(tmp_path / "sweep")[0]["value"])
    try:
        assert [entry.name for entry in kept.iterdir()] == ["socket-with-a-name-of-a-usual-length"]
    finally:
        shutil.rmtree(kept)
        with suppress(OSError):
            kept.parent.rmdir()  # the sweep's, empty by now


@pytest.mark.slow
def test_a_unix_socket_fits_in_tmpdir_even_when_the_users_is_long(tmp_path: Path) -> None:
    long_name = tmp_path / ("long" * 20)
    long_name.mkdir()
    write_files(tmp_path, {"train.py": TEMPORARY})
    succeed(run_sweep(tmp_path, env={"TMPDIR": str(long_name)}))
    assert list(long_name.iterdir()) == []

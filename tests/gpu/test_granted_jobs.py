"""Jobs that are told which GPUs they have: in their commands and their variables."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.reliability import conf, source
from hsm.core.engine.backend import Launch, NoRoom, Work
from hsm.core.engine.launching import describe_launch, free_port
from hsm.core.engine.ledger import JobHandle
from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.job_variables import no_gpu_variables
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.ports import PORTS, NoPort
from hsm.core.gpu.visible import NO_GPUS, FoundGpus
from hsm.core.local.processes.slot import Slot
from hsm.core.program.import_watch import is_of_one_job
from hsm.core.program.program import Program
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep
from hsm.core.space.command import check_command, expand_command, filled, late_names

VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HSM_GPUS", "MASTER_ADDR", "MASTER_PORT")
_ALL = {"HIP_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "0", "ZE_AFFINITY_MASK": "0"}
VALUES = {"gpu": "1,3", "slot": "0", "port": "20000"}
FOUND = FoundGpus(tuple(Gpu(str(at), index=at) for at in range(4)), origin="NVML")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *_ALL):
        monkeypatch.delenv(name, raising=False)


# --- commands ---


@pytest.mark.parametrize(
    ("template", "params", "shown", "run"),
    [
        (["./fit", "{gpu}"], {}, ["./fit", "{gpu}"], ["./fit", "1,3"]),
        (
            ["x", "--dev=cuda:{gpu}/{port}"],
            {},
            ["--dev=cuda:{gpu}/{port}"],
            ["--dev=cuda:1,3/20000"],
        ),
        (["x", "{slot}{slot}"], {}, ["{slot}{slot}"], ["00"]),
        (["x", "{lr}-{gpu}-{lr}"], {"lr": 0.1}, ["0.1-{gpu}-0.1"], ["0.1-1,3-0.1"]),
        (["x", "{{gpu}}"], {}, ["{gpu}"], ["{gpu}"]),
        (["x", "{{{gpu}}}"], {}, ["{{gpu}}"], ["{1,3}"]),
        # A parameter wins, and no value is read as a command.
        (["x", "{gpu}"], {"gpu": 7}, ["7"], ["7"]),
        (["x", "{gpu}"], {"+gpu": "a"}, ["a"], ["a"]),
        (["x", "{note}{gpu}"], {"note": "{port}"}, ["{port}{gpu}"], ["{port}1,3"]),
        (["x", "{args}", "{gpu}"], {"gpu": 7, "b": 1}, ["b=1", "7"], ["b=1", "7"]),
        (["x", "{args}", "{gpu}"], {"b": 1}, ["b=1", "{gpu}"], ["b=1", "1,3"]),
        (["x", "{job_dir}:{port}"], {}, ["/j:{port}"], ["/j:20000"]),
    ],
)
def test_what_stands_for_what_an_attempt_has(
    template: list[str], params: dict[str, Any], shown: list[str], run: list[str]
) -> None:
    words = expand_command(template, params, "/j")
    assert words[-len(shown) :] == shown
    assert list(filled(words, VALUES))[-len(run) :] == run
    assert all(type(word) is str for word in filled(words, VALUES))
    assert late_names(words) <= set(VALUES)


def test_a_command_with_nothing_else_in_it_is_filled_in_too() -> None:
    program = Program(command=("./fit", "{slot}"))
    command = program.command_for({}, "/j")
    assert command == program.command
    assert command is not None
    assert filled(command, VALUES) == ("./fit", "0")
    plain = Program(command=("./fit", "-v"))
    assert plain.command_for({}, "/j") is plain.command


def test_near_names_are_told() -> None:
    check_command(["x", "{gpu}{slot}{port}"], [])
    with pytest.raises(SettingsError, match=r"no parameter for \{gpus\}; did you mean gpu"):
        check_command(["x", "{gpus}"], ["lr"])
    with pytest.raises(SettingsError, match=r"\{slot\}, \{job_dir\}, \{args\}, \{gpu\}, \{port\} "):
        check_command(["x", "{}"], ["slot"])


# --- launches ---


def handle(
    folder: Path, *words: str, gpus: tuple[Gpu, ...] = (), slot: int | None = 2
) -> JobHandle:
    paths = SweepPaths(folder)
    paths.create()
    journal: Any = SimpleNamespace(paths=paths, sweep_id="s", shelf=None)
    job = Job(3, "s_3", "x=1", {"x": 1})
    command = tuple(expand_command(words or ("true",), {"x": 1}, "/j"))
    made = JobHandle(job, Work(command=command), None, journal, str(folder))
    made.slot = slot
    if gpus:
        made.gpu_need = GpuNeed(len(gpus))
        made.grant = GpuGrant(3, made.gpu_need, gpus)
    return made


def told(launch: Launch) -> dict[str, str]:
    return {name: launch.env[name] for name in VARIABLES if name in launch.env}


def test_without_gpus_a_job_is_told_its_slot_alone(tmp_path: Path) -> None:
    made = handle(tmp_path)
    launch = describe_launch(made, conf())
    before = describe_launch(handle(tmp_path, slot=None), conf())
    assert launch.env == {**before.env, "HSM_SLOT": "2"}
    assert launch.command is made.work.command
    assert (launch.grant, made.port) == (None, None)


def test_a_job_with_gpus(tmp_path: Path) -> None:
    made = handle(tmp_path, "x", "{gpu}", "{slot}", "{port}", gpus=(FOUND.gpus[3], FOUND.gpus[1]))
    launch = describe_launch(made, conf(), found=FOUND)
    port = str(made.port)
    assert [each["index"] for each in json.loads(launch.env["HSM_GPUS"])] == [1, 3]
    assert {**told(launch), "HSM_GPUS": ""} == dict(
        zip(VARIABLES, ("1,3", "PCI_BUS_ID", "", "127.0.0.1", port), strict=True)
    )
    assert launch.command == ("x", "1,3", "2", port)
    assert launch.grant is made.grant
    free_port(made)
    free_port(made)
    assert made.port is None


def test_a_running_jobs_port_is_no_other_jobs(tmp_path: Path) -> None:
    made = [handle(tmp_path, gpus=FOUND.gpus[:1]) for _ in range(5)]
    launches = [describe_launch(each, conf(), found=FOUND) for each in made]
    assert len({launch.env["MASTER_PORT"] for launch in launches}) == 5
    for each in made:
        free_port(each)


@pytest.mark.parametrize("where", ["environment", "setting"])
def test_the_users_own_variables_stay(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"MASTER_PORT": "29500", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    env = own if where == "setting" else {}
    if where == "environment":
        for name, value in own.items():
            monkeypatch.setenv(name, value)
    made = handle(tmp_path, gpus=FOUND.gpus[:1])
    launch = describe_launch(made, conf(env=env), found=FOUND)
    free_port(made)
    facts = {"CUDA_VISIBLE_DEVICES": "0", "HSM_GPUS": launch.env["HSM_GPUS"]}
    assert told(launch) == {**facts, **env}


def test_a_job_that_needs_none_sees_none(tmp_path: Path) -> None:
    for found in (FOUND, NO_GPUS):
        made = handle(tmp_path, "x", "[{gpu}]")
        launch = describe_launch(made, conf(), found=found)
        assert told(launch) == {"CUDA_VISIBLE_DEVICES": "", "HSM_GPUS": "[]"}
        assert launch.command == ("x", "[]")
        assert made.port is None


def test_without_a_free_port_a_job_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise NoPort("no TCP port is free")

    monkeypatch.setattr(PORTS, "take", none_left)
    with pytest.raises(NoRoom, match="no TCP port is free"):
        describe_launch(handle(tmp_path, "x", "{port}"), conf())
    describe_launch(handle(tmp_path, "x", "{slot}"), conf())


def test_a_grant_is_not_sent_to_the_keeper(tmp_path: Path) -> None:
    made = handle(tmp_path, gpus=FOUND.gpus[:1])
    launch = describe_launch(made, conf(), found=FOUND)
    free_port(made)
    sent: list[Launch] = []
    channel: Any = SimpleNamespace(send=sent.append)
    Slot(channel, lambda: None).start(launch)
    assert sent == [launch._replace(grant=None)]
    assert launch.grant is made.grant


# --- whole sweeps ---


def output(sweep_dir: Path, num: int) -> str:
    return SweepPaths(sweep_dir).stdout(num).read_text().strip()


def test_jobs_of_a_sweep_without_gpus_see_none(tmp_path: Path) -> None:
    command = ["sh", "-c", 'echo "[{gpu}]$CUDA_VISIBLE_DEVICES|$HSM_GPUS|$MASTER_PORT"']
    with source(gpus=0, env={"X": "1"}) as made:
        [job_id] = made.submit_jobs([{"x": 1}], "s", tmp_path, command=command)
        made.wait()
        assert made.get_job_status(job_id) is JobState.COMPLETED
    assert output(tmp_path, 0) == "[]|[]|"


def test_a_function_is_told_as_well(tmp_path: Path) -> None:
    with source(gpus=0) as made:
        [job_id] = made.submit_jobs([{"x": 1}], "s", tmp_path, function=_seen)
        assert made.result(job_id) == ["", "[]"]


def _seen(params: dict[str, Any]) -> list[str | None]:
    import os

    return [os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("HSM_GPUS")]


def test_a_warm_script_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its imports are done once, without the variables of a job: who reads these is not warm."""
    monkeypatch.chdir(tmp_path)
    how = "'warm' if 'hsm.core.local.warm_server' in sys.modules else 'cold'"
    text = f"import os, sys, json\nprint({how}, [os.environ['CUDA_VISIBLE_DEVICES']])\n"
    Path("fit.py").write_text(text)
    with source(gpus=0) as made:
        made.submit_jobs([{"x": 1}, {"x": 2}], "s", tmp_path / "s", script="fit.py")
        made.wait()
    assert [output(tmp_path / "s", num) for num in (0, 1)] == ["warm ['']"] * 2


def test_no_import_that_is_done_once_reads_what_a_job_is_told(tmp_path: Path) -> None:
    made = handle(tmp_path, gpus=FOUND.gpus[:1])
    names = {*describe_launch(made, conf(), found=FOUND).env, *no_gpu_variables(_ALL)}
    free_port(made)
    assert names >= {*VARIABLES, *_ALL}
    assert all(map(is_of_one_job, names))


def test_ports_of_jobs_that_run_at_once_and_again(tmp_path: Path) -> None:
    """Each attempt has one; the record keeps what the user wrote."""
    command = ["sh", "-c", 'echo {port} >> "$HSM_JOB_DIR/ports"; exit 1']
    with source(max_retries=1, retry_delay=0) as made:
        made.submit_jobs([{"x": 1}, {"x": 2}], "s", tmp_path, command=command)
        made.wait()
        assert [handle.port for handle in made._ledger.all()] == [None, None]
    for num in (0, 1):
        ports = (tmp_path / str(num) / "ports").read_text().split()
        assert len(ports) == 2
        assert all(port.isdigit() for port in ports)
    sweep = read_sweep(tmp_path)
    assert tuple(sweep.header["program"]["command"]) == tuple(command)
    assert [job.label for job in sweep.jobs.values()] == ["x=1", "x=2"]


def test_naming_gpus_that_nobody_gives_is_refused_before_any_job(tmp_path: Path) -> None:
    with source() as made:
        with pytest.raises(SettingsError, match=r"command: \{gpu\} needs the setting gpus"):
            made.submit_jobs([{"x": 1}], "s", tmp_path, command=["echo", "{gpu}"])
        assert made.jobs() == []
        # A parameter of that name is no placeholder of hsm's.
        made.submit_jobs([{"gpu": 1}], "s", tmp_path, command=["echo", "{gpu}"])
        made.wait()
    assert output(tmp_path, 0) == "1"

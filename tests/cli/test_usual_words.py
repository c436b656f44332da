"""Command lines that are read without typer mean what they mean to typer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hsm.cli import monitor, sweep
from hsm.cli._commands import run_command
from hsm.cli._monitor_line import MonitorLine, read_monitor_line
from hsm.cli._point_options import POINT_OPTIONS, STUDY
from hsm.cli._sweep_line import SweepLine, read_sweep_line
from hsm.core.errors import HsmError
from hsm.core.settings.kinds import Switch
from hsm.core.settings.resolve import SETTINGS

_OPTIONS = [
    *("--script", "--args-style", "--config", "-c", "--sweep-id", "--sweep-dir", "--hsm-config"),
    *("--mode", "--resume", "--max-runs", "--dry-run", "--count-only", "--detach", "--json"),
    *("--method", "--n-trials", "--seed", "--filter", "--shuffle", "--no-shuffle"),
    *("--zip", "--also", "--repeat"),
    *(each.option for each in POINT_OPTIONS if each.section == STUDY),
    *(name for setting in SETTINGS.values() for name in setting.flag.split("/")),
    *(f"--no-{setting.flag[2:]}" for setting in SETTINGS.values()),
    *("--once", "--no-once", "--no-json"),
    *("--no-such", "-x", "-", "---", "--", "--parallel", "--no", "--install-completion", "-h2"),
]
_TEXTS = [
    *(
        "a=1",
        "n=range(5)",
        "x=a b",
        "=",
        "a==b",
        "2",
        "true",
        "a.py",
        "outputs/x",
        "",
        " ",
        "caf\u00e9",
    ),
    *(
        "-1",
        "-",
        "--",
        "--json",
        "a\n",
        "\t",
        "\u2028",
        "\udc80",
        "'q'",
        "%s",
        "{lr}",
        "$HOME",
        "*",
    ),
]
_words = st.lists(
    st.sampled_from(_OPTIONS)
    | st.sampled_from(_TEXTS)
    | st.builds("{}={}".format, st.sampled_from(_OPTIONS), st.sampled_from(_TEXTS)),
    max_size=7,
)


def as_typer_reads(command: Any, words: list[str]) -> Any:
    """What typer makes of a line of `hsm sweep` or `hsm monitor`. Raises HsmError if it refuses."""
    read: list[Any] = []

    def note(line: Any) -> int:
        read.append(line)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "run_line", note)
        run_command([command.__name__.rpartition(".")[2], *words])
    [line] = read
    return line


def facts(line: SweepLine | MonitorLine) -> dict[str, Any]:
    found = asdict(line)
    if isinstance(line, SweepLine):
        found["overrides"] = list(line.overrides)
    found["settings"] = {name: it for name, it in line.settings.items() if it is not None}
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_words)
@example(["n=range(1000)", "--parallel-jobs", "2", "--", "true"])
@example(["a=1", "--no-show-output", "--timeout=3", "--", "sh", "-c", "--", "x"])
@example(["--script", "--json"])
@example(["a=1", "--zip", "b=1,2 c=3,4", "--also=a=2", "--zip", "d=1", "--repeat", "s=1,2"])
@example(
    ["a=1", "--method", "lhs", "--n-trials=3", "--seed", "0", "--filter", "a > 0", "--shuffle"]
)
@example(["a=1", "--objective", "loss", "--metric=b", "--direction", "maximize", "--minimize"])
@example(["a=1", "--enqueue", "a=1", "--enqueue=a=2", "--sampler", "{name: tpe}", "--n-jobs=2"])
@example(["--timeout", "1", "--timeout", "2"])
def test_what_is_read_of_sweep_without_typer_is_what_typer_reads(words: list[str]) -> None:
    line = read_sweep_line(words)
    if line is not None:
        assert facts(line) == facts(as_typer_reads(sweep, words))


_MONITOR_OPTIONS = [
    *("--once", "--json", "--show-output", "--progress", "--sweep-id", "--hsm-config"),
    *("--metric", "--direction"),
]
_monitor_words = st.lists(
    st.sampled_from(_MONITOR_OPTIONS) | st.sampled_from([*_OPTIONS, *_TEXTS]), max_size=6
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_monitor_words)
@example([])
@example(["--once"])
@example(["--once", "digits", "--metric", "loss", "--direction=minimize"])
@example(["digits", "--json", "--progress", "plain", "--show-output", "--hsm-config", "a.yaml"])
@example(["--sweep-id", "--json"])
@example(["two", "sweeps"])
@example(["--", "digits"])
def test_what_is_read_of_monitor_without_typer_is_what_typer_reads(words: list[str]) -> None:
    line = read_monitor_line(words)
    if line is not None:
        assert facts(line) == facts(as_typer_reads(monitor, words))


@pytest.mark.parametrize("words", [[], ["last"], ["--once"], ["--sweep-id=s", "--once"]])
def test_a_usual_line_of_monitor_is_read_without_typer(words: list[str]) -> None:
    line = read_monitor_line(words)
    assert line is not None
    assert facts(line) == facts(as_typer_reads(monitor, words))


@pytest.mark.parametrize("name", [name for name, it in SETTINGS.items() if it.is_option])
def test_every_setting_is_read_as_typer_reads_it(name: str) -> None:
    setting = SETTINGS[name]
    names = setting.flag.split("/")
    if isinstance(setting.kind, Switch):
        names.append(f"--no-{setting.flag[2:]}")
    texts = ["7"] if len(names) == 1 else []
    for option in names:
        words = ["a=1", option, *texts]
        line = read_sweep_line(words)
        assert line is not None
        assert facts(line) == facts(as_typer_reads(sweep, words))
        assert facts(line)["settings"]


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["-h"], ["--nope"], ["--timeou", "3"], ["--timeout"], ["--timeout="]),
        *(["--timeout", "-1"], ["--timeout", "1", "--timeout", "1"], ["--count-only"]),
        *(["--dry-run"], ["--detach"], ["--json"], ["--resume", "last"], ["--max-runs", "3"]),
        *(["--config", "-"], ["-c", "x.yaml"], ["a=\n"], [""], ["--show-output=true"]),
    ],
    ids=" ".join,
)
def test_all_else_of_sweep_is_left_to_typer(words: list[str]) -> None:
    assert read_sweep_line(words) is None


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["--nope"], ["--onc"], ["--once", "--once"], ["--once=true"], ["a", "b"]),
        *(["--", "a"], ["--mode", "local"], ["--metric"], ["--metric="], ["--timeout", "3"]),
        *(["--progress", "-"], ["a\n"], [""]),
    ],
    ids=" ".join,
)
def test_all_else_of_monitor_is_left_to_typer(words: list[str]) -> None:
    assert read_monitor_line(words) is None


def test_completion_is_left_to_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_HSM_COMPLETE", "complete_bash")
    assert read_sweep_line(["a=1"]) is None
    assert read_monitor_line(["--once"]) is None


def test_a_usual_line_imports_neither_typer_nor_rich_nor_hydra(tmp_path: Any) -> None:
    program = (
        "import sys; from hsm.cli.main import run;"
        "code = run(sys.argv[1:]);"
        "heavy = ('typer', 'click', 'pydantic', 'rich', 'hydra', 'omegaconf', *{more});"
        "print(code, [name for name in heavy if name in sys.modules], file=sys.stderr)"
    )

    def run(more: list[str], *words: str) -> str:
        command = [sys.executable, "-c", program.replace("{more}", str(more)), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stderr

    sweep_words = ["sweep", "n=range(2)", "--parallel-jobs", "2", "--", "true"]
    assert run([], *sweep_words) == "0 []\n"
    assert run(["psutil"], "monitor", "--once") == "0 []\n"


def test_a_line_that_typer_refuses_is_refused(tmp_path: Any) -> None:
    with pytest.raises(HsmError, match="No such option: --nope"):
        run_command(["sweep", "--nope"])

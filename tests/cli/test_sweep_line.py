"""Command lines that are read without typer mean what they mean to typer."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hsm.cli import sweep
from hsm.cli._commands import run_command
from hsm.cli._sweep_line import SweepLine, read_usual_line
from hsm.core.errors import HsmError
from hsm.core.settings.kinds import Switch
from hsm.core.settings.resolve import SETTINGS

_OPTIONS = [
    *("--script", "--args-style", "--config", "-c", "--sweep-id", "--sweep-dir", "--hsm-config"),
    *("--mode", "--resume", "--max-runs", "--dry-run", "--count-only", "--detach", "--json"),
    *(name for setting in SETTINGS.values() for name in setting.flag.split("/")),
    *(f"--no-{setting.flag[2:]}" for setting in SETTINGS.values()),
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


def as_typer_reads(words: list[str]) -> SweepLine:
    """What typer makes of a line. Raises HsmError if it refuses it."""
    read: list[SweepLine] = []

    def note(line: SweepLine) -> int:
        read.append(line)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "run_line", note)
        run_command(["sweep", *words])
    [line] = read
    return line


def facts(line: SweepLine) -> dict[str, Any]:
    given = {name: value for name, value in line.settings.items() if value is not None}
    return {**asdict(line), "overrides": list(line.overrides), "settings": given}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_words)
@example(["n=range(1000)", "--parallel-jobs", "2", "--", "true"])
@example(["a=1", "--no-show-output", "--timeout=3", "--", "sh", "-c", "--", "x"])
@example(["--script", "--json"])
@example(["--timeout", "1", "--timeout", "2"])
def test_what_is_read_without_typer_is_what_typer_reads(words: list[str]) -> None:
    line = read_usual_line(["sweep", *words])
    if line is not None:
        assert facts(line) == facts(as_typer_reads(words))


@pytest.mark.parametrize("name", [name for name, it in SETTINGS.items() if it.is_option])
def test_every_setting_is_read_as_typer_reads_it(name: str) -> None:
    setting = SETTINGS[name]
    names = setting.flag.split("/")
    if isinstance(setting.kind, Switch):
        names.append(f"--no-{setting.flag[2:]}")
    texts = ["7"] if len(names) == 1 else []
    for option in names:
        words = ["a=1", option, *texts]
        line = read_usual_line(["sweep", *words])
        assert line is not None
        assert facts(line) == facts(as_typer_reads(words))
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
def test_all_else_is_left_to_typer(words: list[str]) -> None:
    assert read_usual_line(["sweep", *words]) is None


def test_other_commands_and_completion_are_left_to_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ([], ["--help"], ["list"], ["--version"], ["swep", "a=1"]):
        assert read_usual_line(words) is None
    monkeypatch.setenv("_HSM_COMPLETE", "complete_bash")
    assert read_usual_line(["sweep", "a=1"]) is None


def test_a_usual_sweep_imports_neither_typer_nor_rich_nor_hydra(tmp_path: Any) -> None:
    program = (
        "import sys; from hsm.cli.main import run;"
        "code = run(['sweep', 'n=range(2)', '--parallel-jobs', '2', '--', 'true']);"
        "heavy = ('typer', 'click', 'pydantic', 'rich', 'hydra', 'omegaconf');"
        "print(code, [name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == "0 []\n"


def test_a_line_that_typer_refuses_is_refused(tmp_path: Any) -> None:
    with pytest.raises(HsmError, match="No such option: --nope"):
        run_command(["sweep", "--nope"])

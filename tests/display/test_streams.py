"""Whatever the stream is like that a display writes to: it is never in the way."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import TextIO, cast

import pytest

from helpers.displays import MODES, T0, Terminal, environment, pending
from helpers.processes import PATIENCE
from hsm.core.engine.compute_source import RunningJob
from hsm.core.errors import SettingsError
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display import Display, make_display
from hsm.display.plain_display import PlainDisplay
from hsm.display.rich_display import RichDisplay


class Broken(io.StringIO):
    """Fails at every write, as `error` says."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error

    def flush(self) -> None:
        raise self._error


def use_all_of(display: Display, paths: SweepPaths) -> None:
    paths.stderr(0).write_text("boom\n")
    job = pending(0, "lr=1")
    with display:
        display.jobs_submitted([job])
        job.start(T0, 1)
        display.job_started(job)
        display.job_output(job, "stderr", "text")
        job.end(T0 + 1, Ending(JobState.FAILED))
        display.job_ended(job)
        display.message("notice")
    display.summary()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed"), KeyError()],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_stream_breaks_nothing(paths: SweepPaths, mode: str, error: Exception) -> None:
    stream = Broken(error)
    use_all_of(
        make_display(mode, show_output=True, paths=paths, running=list, stream=stream), paths
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_closed_stream_breaks_nothing(paths: SweepPaths, mode: str) -> None:
    stream = Terminal()
    stream.close()
    use_all_of(
        make_display(mode, show_output=True, paths=paths, running=list, stream=stream), paths
    )


@pytest.mark.parametrize("mode", ["auto", *MODES])
def test_a_process_without_stdout(
    paths: SweepPaths, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    use_all_of(make_display(mode, show_output=True, paths=paths, running=list), paths)


@pytest.mark.parametrize("mode", MODES)
def test_odd_jobs_break_nothing(paths: SweepPaths, mode: str) -> None:
    file = Terminal()

    def nothing() -> Sequence[RunningJob]:
        raise RuntimeError("no figures")

    display = make_display(mode, show_output=True, paths=paths, running=nothing, stream=file)
    with display:
        display.job_ended(cast("Job", None))
        display.jobs_submitted([cast("Job", 1)])
        display.job_output(pending(0), "stdout", "still here")
    assert "still here" in file.getvalue()


@pytest.mark.parametrize("mode", MODES)
def test_what_the_encoding_lacks_is_replaced(paths: SweepPaths, mode: str) -> None:
    data = io.BytesIO()
    file = io.TextIOWrapper(data, encoding="ascii")
    display = make_display(mode, show_output=True, paths=paths, running=list, stream=file)
    with display:
        display.jobs_submitted([pending(0, "größe=1")])
        display.job_output(pending(0), "stdout", "größe")
    assert b"[0] " in data.getvalue()
    assert b"gr??e" in data.getvalue()


@pytest.mark.parametrize("mode", ["plain", "rich"])
def test_a_reader_that_goes_away_costs_no_exit_code(mode: str, tmp_path: Path) -> None:
    script = f"""
        import sys
        from hsm.core.record.job import Job
        from hsm.core.record.paths import SweepPaths
        from hsm.display import make_display
        display = make_display("{mode}", show_output=True, paths=SweepPaths("."), running=list)
        sys.stdin.readline()
        with display:
            for number in range(2000):
                display.job_output(Job(0, "0"), "stdout", "x" * 100)
        display.summary()
        """
    with subprocess.Popen(
        [sys.executable, "-c", dedent(script)],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"go\n", timeout=PATIENCE)
    assert (process.returncode, errors) == (0, b"")


# ----------------------------------------------------------------------------------------- choice


def test_auto_is_rich_on_a_terminal(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(stream: TextIO, term: str) -> type[Display]:
        monkeypatch.setenv("TERM", term)
        display = make_display("auto", show_output=False, paths=paths, running=list, stream=stream)
        return type(display)

    assert kind(Terminal(), "xterm-256color") is RichDisplay
    assert kind(Terminal(), "dumb") is PlainDisplay
    assert kind(io.StringIO(), "xterm-256color") is PlainDisplay


def test_an_unknown_kind_is_refused(paths: SweepPaths) -> None:
    with pytest.raises(SettingsError, match=r"progress must be one of auto, rich.*, not 'fancy'"):
        make_display("fancy", show_output=False, paths=paths, running=list)


def test_rich_is_imported_only_when_used() -> None:
    script = """
        import io, sys
        from hsm.core.record.paths import SweepPaths
        from hsm.display import make_display
        make_display("plain", show_output=True, paths=SweepPaths("."), running=list)
        print("rich" in sys.modules)
        """
    command = [sys.executable, "-c", dedent(script)]
    env = environment()
    assert subprocess.run(command, env=env, capture_output=True, check=True).stdout == b"False\n"

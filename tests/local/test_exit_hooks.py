"""g. Exit hooks that the app registered at import, and telemetry that is sent at exit."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import App, both_methods

pytestmark = pytest.mark.thorough

_HOOKS = """
    import atexit, logging, tempfile

    import hooked

    shared = tempfile.TemporaryDirectory(prefix="shared-", dir=".")
    Path(shared.name, "data").write_text("everybody's")


    def at_exit(name):
        with open("hooks", "a") as file:
            file.write(f"{name} {os.environ.get('HSM_JOB_NUM', 'launcher')}\\n")


    atexit.register(at_exit, "script")


    def job(cfg):
        if cfg.job == 0:
            atexit.register(at_exit, "job")
        if cfg.job == 1:
            raise ValueError("fails")
        return Path(shared.name, "data").read_text()
"""
_HOOKED = """
import atexit


@atexit.register
def fail():
    raise ValueError("a hook that fails costs no job")
"""


def hooks(folder: Path, **settings: Any) -> list[list[str]]:
    """Who ran which hooks, in order of the runs: those of the launcher, of job 0, 1 and 2."""
    (folder / "hooked.py").write_text(_HOOKED)
    swept = App(folder, _HOOKS).run("job=range(3)", start_method="fork", **settings)
    assert swept.states == ["COMPLETED", "FAILED", "COMPLETED"], swept.screen
    assert swept.values == ["everybody's", None, "everybody's"]
    assert list(folder.glob("shared-*")) == []  # by the launcher, at its end
    lines = (folder / "hooks").read_text().splitlines()
    return [
        [line.split()[0] for line in lines if line.split()[1] == who]
        for who in ("launcher", "0", "1", "2")
    ]


@pytest.mark.slow
def test_the_apps_hooks_run_in_the_launcher_alone_by_default(tmp_path: Path) -> None:
    assert hooks(tmp_path) == [["script"], ["job"], [], []]


def test_with_exit_hooks_they_run_in_each_job_after_its_own(tmp_path: Path) -> None:
    """What the app would remove at its end (a temporary directory) stays: all jobs use it."""
    expected = [["script"], ["job", "script"], ["script"], ["script"]]
    assert hooks(tmp_path, exit_hooks=True) == expected


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes what telemetry sends; its address, and what came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", bodies
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
@both_methods
def test_what_a_job_told_sentry_is_sent(tmp_path: Path, start_method: str) -> None:
    pytest.importorskip("sentry_sdk")
    with collector() as (address, bodies):
        (tmp_path / "telemetry.py").write_text(
            "import sentry_sdk\n"
            f"sentry_sdk.init('http://key@{address}/1', default_integrations=False)\n"
        )
        app = App(
            tmp_path,
            """
    import telemetry


    def job(cfg):
        for n in range(20):
            telemetry.sentry_sdk.capture_message(f"message {cfg.job}.{n}.")
    """,
        )
        swept = app.run("job=range(2)", start_method=start_method)
        assert swept.states == ["COMPLETED"] * 2, swept.screen
        expected = {f"message {num}.{n}." for num in range(2) for n in range(20)}
        assert {text for text in expected if any(found(text, body) for body in bodies)} == expected


def found(text: str, body: bytes) -> bool:
    return text.encode() in (gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body)


_OPEN_TELEMETRY = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter, MetricExportResult, PeriodicExportingMetricReader
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult


class Spans(SpanExporter):
    def export(self, spans):
        with open("sent", "a") as file:
            file.write("".join(f"{span.name}\\n" for span in spans))
        return SpanExportResult.SUCCESS


class Metrics(MetricExporter):
    def export(self, metrics_data, timeout_millis=0, **kwargs):
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    with open("sent", "a") as file:
                        file.write(f"{metric.name}\\n")
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis=0, **kwargs): pass
    def force_flush(self, timeout_millis=0): return True


traces = TracerProvider()
traces.add_span_processor(BatchSpanProcessor(Spans()))
trace.set_tracer_provider(traces)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(Metrics(), 3_600_000)]))
tracer, meter = trace.get_tracer("app"), metrics.get_meter("app")
"""


@both_methods
def test_what_a_job_told_open_telemetry_is_sent(tmp_path: Path, start_method: str) -> None:
    pytest.importorskip("opentelemetry.sdk")
    (tmp_path / "telemetry.py").write_text(_OPEN_TELEMETRY)
    app = App(
        tmp_path,
        """
    def job(cfg):
        import telemetry

        with telemetry.tracer.start_as_current_span(f"span {cfg.job}"):
            telemetry.meter.create_counter(f"counter_{cfg.job}").add(1)


    if __name__ == "__main__":
        import telemetry
    """,
    )
    swept = app.run("job=range(2)", start_method=start_method)
    assert swept.states == ["COMPLETED"] * 2, swept.screen
    sent = (tmp_path / "sent").read_text().splitlines()
    assert {*sent} == {"counter_0", "counter_1", "span 0", "span 1"}


@pytest.mark.slow
def test_telemetry_that_hangs_or_fails_costs_a_job_seconds_at_most(tmp_path: Path) -> None:
    (tmp_path / "sentry_sdk.py").write_text(
        "import time\n"
        "def flush(timeout):\n"
        "    open('asked', 'a').write(f'{timeout:g}\\n')\n"
        "    time.sleep(3600)\n"
    )
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "trace.py").write_text(
        "class _TRACER_PROVIDER:\n"
        "    def force_flush(timeout_millis):\n"
        "        open('asked', 'a').write(f'{timeout_millis}\\n')\n"
        "        raise SystemExit('no collector')\n"
    )
    app = App(
        tmp_path,
        """
    import opentelemetry.trace, sentry_sdk


    def job(cfg):
        return "done"
    """,
    )
    swept = app.run("job=range(2)", start_method="fork")
    assert swept.states == ["COMPLETED"] * 2, swept.screen
    assert sorted((tmp_path / "asked").read_text().split()) == ["3", "3", "3000", "3000"]


def test_nothing_is_imported_for_it(tmp_path: Path) -> None:
    app = App(
        tmp_path,
        """
    import atexit, sys


    def job(cfg):
        atexit._run_exitfuncs()  # what there is to be run at the job's end
        return [name for name in ("sentry_sdk", "opentelemetry") if name in sys.modules]
    """,
    )
    assert app.run("job=range(1)", start_method="fork").values == [[]]

"""c. Event loops that the app made at import: jobs do not share them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.looks import look_in, start_methods
from helpers.processes import App

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, auto is spawn"),
]

_WORK = """
    import asyncio
    {loop}

    def step(n):
        time.sleep(0.001)
        return n

    async def work():
        return sum([await asyncio.to_thread(step, n) for n in range(40)])

    def job(cfg):
        return loop.run_until_complete(work())
"""


@pytest.mark.slow
def test_a_loop_that_was_made_at_import(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import asyncio\nloop = asyncio.new_event_loop()\n")
    app = App(
        tmp_path,
        _WORK.format(loop="import net").replace("loop.run_until", "net.loop.run_until"),
    )
    done = app.run("job=range(4)", max_parallel_jobs=4, seconds=240)
    assert done.values == [780] * 4, done.screen
    assert start_methods(done) == ["spawn"]
    assert "the launching process has an event loop open" in done.screen


def test_a_loop_that_cannot_be_spawned_is_refused_before_any_job(tmp_path: Path) -> None:
    app = App(tmp_path, _WORK.format(loop="loop = asyncio.new_event_loop()"))
    done = app.run("job=range(2)", seconds=240)
    assert done.code == 1
    assert "event loop open" in done.screen
    assert "the global 'loop'" in done.screen
    assert "start_method=fork" in done.screen
    assert not list((tmp_path / "sweep").glob("[0-9]*"))


def test_other_things_to_wait_with(tmp_path: Path) -> None:
    seen = look_in(
        """
        import asyncio, os, select, selectors
        loop = asyncio.new_event_loop()
        see("loop")
        loop.close()
        see("closed loop")
        selector = selectors.EpollSelector()
        see("selector")
        selector.close()
        if hasattr(os, "eventfd"):
            fd = os.eventfd(0)
        see("eventfd")
        """,
        tmp_path,
    )
    assert "an event loop open" in seen["loop"][0][0]
    assert seen["closed loop"] == []
    assert "an event loop open" in seen["selector"][0][0]
    assert len(seen["eventfd"]) == hasattr(__import__("os"), "eventfd")

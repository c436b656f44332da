"""SIGPIPE's default action, which command line tools set for `| head`, ends nothing of hsm's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.processes import first_fast
from helpers.reliability import start_driver, write_driver

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

#: Jobs one after the other, and after each of them whoever is named is killed.
_KILLS = """
    import signal

    import psutil


    def note_keeper(params):
        Path("keeper").write_text(str(os.getppid()))


    def kill(names):
        keeper = psutil.Process(int(Path("keeper").read_text()))
        server = keeper.parent()
        held = server.num_fds()
        for name in names.split("+"):
            {"keeper": keeper, "server": server}[name].kill()
        while not is_dealt_with(server, held, names):
            time.sleep(0.01)


    def is_dealt_with(server, held, names):
        if "server" in names:  # Until it is a zombie, its keepers know nothing, and start jobs.
            return server.status() == "zombie"
        return server.num_fds() < held  # It holds the keeper's end until then.


    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    command = ["sh", "-c", "echo $PPID > keeper"]
    for function, options in ((None, {"command": command}), (note_keeper, {})):
        with LocalComputeSource(1, function=function, show_output=False) as made:
            for _ in range(3):
                made.submit_jobs([{"x": 0}], "s", f"sweep-{function is None}", **options)
                made.wait()
                assert {str(job.state) for job in made.jobs()} == {"COMPLETED"}, made.jobs()
                kill(sys.argv[2])
"""


@pytest.mark.parametrize("victims", first_fast("keeper", "server", "keeper+server"))
def test_a_launcher_outlives_those_that_it_writes_to(tmp_path: Path, victims: str) -> None:
    write_driver(tmp_path, _KILLS)
    with start_driver(tmp_path, {}, victims) as running:
        done = running.finish()
        running.assert_all_gone(0)
    assert done.code == 0, done.screen

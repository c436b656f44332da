"""The helper process that asks NVIDIA's driver, which is played: started, hung, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from helpers.fake_nvml.fake_gpus import FOLDER, GIB, FakeNvml
from helpers.processes import PATIENCE, child_environment, is_running, wait_for
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.nvml_probe import NvmlProbe
from hsm.core.gpu.probe import GpuProcess, ProbeGone
from hsm.core.gpu.watch import GpuWatch

#: A call that each look makes.
_CALL = "nvmlDeviceGetCount"
#: A launcher that looks once, says so, and looks again.
_LAUNCHER = """
from hsm.core.gpu.nvml_probe import NvmlProbe
probe = NvmlProbe()
print(len(probe.look()), flush=True)
input()
print(len(probe.look()), flush=True)
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    driver = FakeNvml(tmp_path / "gpus.json", gpus=2)
    monkeypatch.setenv("FAKE_NVML", str(driver.path))
    monkeypatch.syspath_prepend(FOLDER)
    return driver


@pytest.fixture
def probe(driver: FakeNvml) -> Iterator[NvmlProbe]:
    probe = NvmlProbe(patience=PATIENCE, first_patience=PATIENCE)
    yield probe
    probe.close()


def helpers(launcher: int | None = None) -> list[psutil.Process]:
    """The helpers of this process, or of another one."""
    found = []
    for child in psutil.Process(launcher).children():
        with suppress(psutil.Error):
            if any(word.endswith("nvml_reader.py") for word in child.cmdline()):
                found.append(child)
    return found


def helper() -> psutil.Process:
    (found,) = helpers()
    return found


def test_each_look_says_what_is_now(driver: FakeNvml, probe: NvmlProbe) -> None:
    assert helpers() == []
    first, second = probe.look()
    assert (first.index, first.name, first.memory, first.used) == (
        0,
        "NVIDIA Fake 4090",
        24 * GIB,
        0,
    )
    assert first.uuid != second.uuid
    driver.add_process(1, os.getpid(), GIB)
    driver.set_gpu(1, load=30)
    driver.lose(0)
    first, second = probe.look()
    assert first.fault == "GPU is lost"
    assert (second.used, second.load) == (GIB, 30)
    assert second.processes == (GpuProcess(os.getpid(), GIB),)
    assert os.getsid(helper().pid) == helper().pid  # a terminal's Ctrl-C is not for it
    probe.close()
    assert helpers() == []


def test_parts_of_a_gpu_are_read(driver: FakeNvml, probe: NvmlProbe) -> None:
    driver.split(1, parts=2)
    assert [(each.index, each.is_mig) for each in probe.look()] == [
        (0, False),
        (1, True),
        (1, True),
    ]


def test_what_the_driver_prints_is_no_answer(driver: FakeNvml, probe: NvmlProbe) -> None:
    driver.print_much()
    for _ in range(3):
        assert len(probe.look()) == 2


def test_threads_may_look_at_once(probe: NvmlProbe) -> None:
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(lambda _: probe.look(), range(20)))
    assert {len(look) for look in looks} == {2}
    assert len(helpers()) == 1


def test_neither_pythonpath_nor_sitecustomize_disturbs_it(
    driver: FakeNvml, probe: NvmlProbe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "along"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("print('hello')")
    (folder / "json.py").write_text("raise RuntimeError('this is not JSON')")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.chdir(folder)
    assert len(probe.look()) == 2


def assert_gone(probe: NvmlProbe, text: str) -> None:
    for _ in range(2):  # then without asking anybody
        with pytest.raises(ProbeGone) as caught:
            probe.look()
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
    assert helpers() == []


def test_a_driver_that_hangs_is_asked_no_more(driver: FakeNvml) -> None:
    probe = NvmlProbe(patience=0.3, first_patience=PATIENCE)
    probe.look()
    driver.hang(_CALL)
    began = time.monotonic()
    assert_gone(probe, "the GPU driver has given no answer for 0.3 s")
    assert time.monotonic() - began < PATIENCE
    driver.hang()
    assert_gone(probe, "no answer")


@pytest.mark.parametrize("call", ["nvmlInit", _CALL])
def test_a_driver_may_hang_from_the_beginning(driver: FakeNvml, call: str) -> None:
    driver.hang(call)
    assert_gone(NvmlProbe(first_patience=0.5), "the GPU driver has given no answer for 0.5 s")


def test_without_pynvml_no_helper_is_started(
    probe: NvmlProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [folder for folder in sys.path if not (Path(folder) / "pynvml.py").exists()]
    monkeypatch.setattr(sys, "path", found)
    assert_gone(probe, "pip install 'hpc-sweep-manager[gpu]'")


@pytest.mark.parametrize(
    ("error", "text"), [(12, "NVML Shared Library Not Found"), (9, "Driver Not Loaded")]
)
def test_without_a_driver_there_is_no_answer(
    driver: FakeNvml, probe: NvmlProbe, error: int, text: str
) -> None:
    driver.fail_to_start(error)
    assert_gone(probe, f"NVIDIA's driver is not there: {text}")


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("import os, time; os.write(0, b'hello\\n'); time.sleep(60)", "bad answer: b'hello'"),
        ("import os, time; os.write(0, b'[1]\\n'); time.sleep(60)", "bad answer: b'[1]'"),
        ("import os; os.write(0, b'{\"gpus\": [{}]}\\n')", "bad answer"),
        ("raise RuntimeError('what a pity')", "(exit code 1): RuntimeError: what a pity"),
        ("import os; os.abort()", "has ended (signal 6)"),
    ],
)
def test_a_helper_that_is_out_of_order_is_given_up(
    driver: FakeNvml, tmp_path: Path, program: str, text: str
) -> None:
    reader = tmp_path / "nvml_reader.py"
    reader.write_text(program)
    assert_gone(NvmlProbe(reader=reader, first_patience=PATIENCE), text)


def test_signs_of_life_are_no_answer(driver: FakeNvml, tmp_path: Path) -> None:
    reader = tmp_path / "nvml_reader.py"
    answer = 'b"\\n" * 9 + b\'{"gpus": []}\\n\\n\''
    reader.write_text(f"import os\nwhile os.read(0, 1):\n    os.write(0, {answer})\n")
    probe = NvmlProbe(reader=reader, first_patience=PATIENCE, patience=PATIENCE)
    assert probe.look() == probe.look() == ()
    probe.close()
    assert helpers() == []


def test_a_helper_that_was_killed_is_not_replaced(probe: NvmlProbe) -> None:
    probe.look()
    helper().kill()
    assert_gone(probe, "the helper that asks the GPU driver has ended (signal 9)")


class Looking:
    """A look in a thread, which hangs."""

    def __init__(self, driver: FakeNvml, probe: NvmlProbe) -> None:
        probe.look()
        driver.hang(_CALL)
        self.error: Exception | None = None
        self._probe = probe
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self) -> None:
        try:
            self._probe.look()
        except ProbeGone as error:
            self.error = error

    def why(self) -> str:
        self.thread.join(PATIENCE)
        return str(self.error)


def test_a_look_ends_when_its_helper_is_killed(driver: FakeNvml, probe: NvmlProbe) -> None:
    looking = Looking(driver, probe)
    helper().kill()
    assert "signal 9" in looking.why()


def test_a_look_ends_when_the_probe_is_closed(driver: FakeNvml, probe: NvmlProbe) -> None:
    looking = Looking(driver, probe)
    probe.close()
    assert "has ended" in looking.why() or "no longer" in looking.why()
    assert helpers() == []
    probe.close()
    with pytest.raises(ProbeGone, match="no longer asked"):
        probe.look()


@pytest.mark.parametrize("hangs", [False, True])
def test_a_helper_ends_with_its_launcher(driver: FakeNvml, hangs: bool) -> None:
    environment = child_environment(**driver.env())
    launcher = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    with launcher:
        assert launcher.stdout.readline() == b"2\n"
        (helper,) = helpers(launcher.pid)
        if hangs:
            driver.hang(_CALL)
            launcher.stdin.write(b"\n")
            launcher.stdin.flush()
        launcher.send_signal(signal.SIGKILL)
        launcher.wait(PATIENCE)
    wait_for(lambda: not is_running(helper.pid), "the helper's end")


def open_files(pid: int | str = "self") -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(each))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_child_has_its_connection_and_forks_stay_safe(probe: NvmlProbe) -> None:
    from hsm.core.local.fork_safety.descriptors import find_shared

    files, found = open_files(), find_shared()
    probe.look()
    connections = open_files() - files
    assert len(connections) == 2
    assert find_shared() == found
    forked = os.fork()
    while forked == 0:
        signal.pause()
    try:
        # It drops them once it runs, and os.fork returns here before that.
        wait_for(lambda: open_files(forked).isdisjoint(connections), "a fork without them")
    finally:
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as executed:
        assert open_files(executed.pid).isdisjoint(connections)


def test_counting_goes_on_when_the_driver_hangs(driver: FakeNvml) -> None:
    notices: list[str] = []
    watch = GpuWatch(NvmlProbe(patience=0.3, first_patience=PATIENCE), notices.append)
    view = watch.look()
    assert view is not None
    uuid = next(iter(view.readings))
    assert view.reading(Gpu("0", uuid=uuid)) is not None
    changed = threading.Event()
    watch.changed = changed.set
    driver.hang(_CALL)
    watch.ask()
    assert changed.wait(PATIENCE)
    watch.ask()
    assert watch.latest is None
    watch.close()
    assert notices == [
        "the GPU driver has given no answer for 0.3 s; hsm counts GPUs all the same, "
        "but cannot see what runs on them"
    ]
    assert helpers() == []

"""d. Locks of `multiprocessing` that the app made at import: each job has its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.processes import App, first_fast

pytestmark = pytest.mark.thorough

MADE_AT_IMPORT = """
    import multiprocessing as mp
    import children

    spawning = mp.get_context("spawn")
    LOCKS = {
        "Lock": mp.Lock(),
        "RLock": mp.RLock(),
        "Semaphore": mp.Semaphore(1),
        "BoundedSemaphore": mp.BoundedSemaphore(1),
        "Condition": mp.Condition(),
        "Condition with a Lock": mp.Condition(mp.Lock()),
        "Value": mp.Value("i").get_lock(),
        "Array": mp.Array("d", 3).get_lock(),
        "Lock of another context": spawning.Lock(),
        "Value of another context": spawning.Value("i").get_lock(),
    }
    acquire = LOCKS["Lock"].acquire  # as libraries keep it
    event, barrier = mp.Event(), mp.Barrier(2)
    slots = mp.Semaphore(3)
    slots.acquire()
    taken, held = mp.Lock(), mp.RLock()
    taken.acquire(), held.acquire(), held.acquire()
    event.set()
    counter, shared = mp.Value("i", 7), spawning.Value("i", 7)
    large = mp.RawArray("b", 17 << 20)
"""


@pytest.mark.slow
def test_a_job_that_is_killed_with_locks_held_keeps_no_other_waiting(tmp_path: Path) -> None:
    app = App(
        tmp_path,
        MADE_AT_IMPORT
        + """
    def job(cfg):
        if cfg.job == 0:
            wait_for("others")  # so that it is killed while they run
        elif cfg.job == 1:
            note("others")
            wait_for("held")
        for name, lock in LOCKS.items():
            assert lock.acquire(timeout=30), name
        if cfg.job == 0:
            note("held")
            os.kill(os.getpid(), signal.SIGKILL)
        assert not acquire(False)
        event.clear()
        return "done"
    """,
    )
    (tmp_path / "children.py").touch()
    swept = app.run(start_method="fork")
    assert swept.states == ["FAILED"] + ["COMPLETED"] * 5, swept.screen


@pytest.mark.slow
def test_each_job_begins_with_them_as_they_were_at_launch(tmp_path: Path) -> None:
    (tmp_path / "children.py").touch()
    app = App(
        tmp_path,
        MADE_AT_IMPORT
        + """
    def job(cfg):
        found = [slots.get_value(), taken.acquire(False), event.is_set()]
        held.release(), held.release()
        taken.release(), event.clear(), slots.acquire()
        for one in (counter, shared):
            with one.get_lock():
                one.value += 1
        large[cfg.job] = 1
        note(f"done.{cfg.job}")
        for other in range(3):
            wait_for(f"done.{other}")  # of all jobs, and none has changed another's
        return [*found, counter.value, shared.value, slots.get_value(), sum(large)]
    """,
    )
    swept = app.run("job=range(3)", start_method="fork", max_parallel_jobs=3)
    # What is larger than 16 MiB is data, and stays shared.
    assert swept.values == [[2, False, True, 8, 8, 1, 3]] * 3, swept.screen


@pytest.mark.slow
def test_the_processes_of_a_job_share_the_jobs_own(tmp_path: Path) -> None:
    """Those that are forked and those that are spawned, which know a lock by its name."""
    (tmp_path / "children.py").write_text(
        "def add(lock, value, times):\n"
        "    for _ in range(times):\n"
        "        with lock:\n"
        "            value.value += 1\n"
    )
    app = App(
        tmp_path,
        MADE_AT_IMPORT
        + """
    def job(cfg):
        added = []
        for context, value, name in (
            (mp.get_context("fork"), counter, "Lock"),
            (spawning, shared, "Lock of another context"),
        ):
            arguments = (LOCKS[name], value, 200)
            workers = [context.Process(target=children.add, args=arguments) for _ in range(2)]
            with LOCKS[name]:
                for worker in workers:
                    worker.start()
                added.append(value.value)  # they wait for the lock
            for worker in workers:
                worker.join()
            added.append(value.value)
        note(f"name.{cfg.job}", LOCKS[name]._hsm_name)
        return added
    """,
    )
    swept = app.run("job=range(2)", start_method="fork")
    assert swept.values == [[7, 407, 7, 407]] * 2, swept.screen
    names = [(tmp_path / f"name.{number}").read_text() for number in range(2)]
    assert names[0] != names[1]
    assert not any(Path(f"/dev/shm/sem.{name[1:]}").exists() for name in names)


@pytest.mark.slow
def test_what_a_thread_of_the_app_held_is_free_in_a_job(tmp_path: Path) -> None:
    """No fork has that thread, so nobody could release it."""
    app = App(
        tmp_path,
        """
    import multiprocessing, threading

    lock, again = multiprocessing.Lock(), multiprocessing.RLock()
    held, done = threading.Event(), threading.Event()


    def hold():
        with lock, again:
            held.set()
            done.wait()


    if __name__ == "__main__":
        threading.Thread(target=hold, daemon=True).start()
        held.wait()


    def job(cfg):
        with lock, again:
            return not lock.acquire(False)
    """,
    )
    swept = app.run("job=range(2)", start_method="fork")
    assert swept.values == [True, True], swept.screen


@pytest.mark.slow
def test_what_belongs_to_a_queue_stays_shared_with_it(tmp_path: Path) -> None:
    """A logger of the app's with a queue and a thread, as loguru's: a job waits for its answer."""
    app = App(
        tmp_path,
        """
    import multiprocessing, threading


    class Logger:
        def __init__(self):
            self.queue = multiprocessing.SimpleQueue()
            self.lock, self.answer = multiprocessing.Lock(), multiprocessing.Event()

        def write(self):
            with open("log", "a") as file:
                while (text := self.queue.get()) is not None:
                    if text:
                        file.write(f"{len(text)}\\n")
                    else:
                        file.flush()
                        self.answer.set()

        def log(self, text):
            with self.lock:
                self.queue.put(text)
                self.queue.put("")
                self.answer.wait()
                self.answer.clear()


    logger, lock = Logger(), multiprocessing.Lock()
    if __name__ == "__main__":
        threading.Thread(target=logger.write, daemon=True).start()


    def job(cfg):
        lock.acquire()  # its own, beside the queue's
        for size in range(100_000, 100_010):  # more than a pipe takes at once
            logger.log("x" * size)
    """,
    )
    swept = app.run("job=range(4)", start_method="fork", max_parallel_jobs=4)
    assert swept.states == ["COMPLETED"] * 4, swept.screen
    sizes = sorted(str(size) for size in range(100_000, 100_010)) * 4
    assert sorted((tmp_path / "log").read_text().split()) == sorted(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", first_fast("fork", "forkserver"))
def test_queues_of_a_job_work(tmp_path: Path, kind: str) -> None:
    """A job's own objects are made as ever, beside those that were replaced."""
    app = App(
        tmp_path,
        f"""
    import multiprocessing

    first = multiprocessing.Lock()


    def put(queue, lock):
        with lock:
            queue.put(3)


    def job(cfg):
        context = multiprocessing.get_context("fork")
        queue, lock = context.Queue(), multiprocessing.get_context("{kind}").Lock()
        worker = context.Process(target=put, args=(queue, first))
        worker.start()
        with lock:
            return [queue.get(), worker.join()]
    """,
    )
    assert app.run("job=range(2)", start_method="fork").values == [[3, None]] * 2

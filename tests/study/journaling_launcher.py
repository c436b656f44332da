"""A launcher that a test kills: it keeps a journal of two lines a job, and no more.

python journaling_launcher.py FOLDER SAMPLER TRIALS
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from helpers.studies import SPACE, loss, space_of
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.study.options import check_study
from hsm.core.study.trials import Trials

JOURNAL = "jobs.jsonl"
WIDTH = 3  # jobs at the same time


def read(folder: Path) -> dict[int, Job]:
    """The jobs of the journal; those that had not ended run again."""
    jobs: dict[int, Job] = {}
    path = folder / JOURNAL
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if "point" in record:
            job = jobs.setdefault(record["num"], Job(record["num"], "", params=record["point"]))
            assert job.params == record["point"], "a number was used twice"
            job.start(0.0, 1)
        else:
            ending = Ending(JobState(record["state"]), objective=record["objective"])
            jobs[record["num"]].end(0.0, ending)
    return jobs


def launch(folder: Path, sampler: Any, count: int) -> None:
    paths = SweepPaths(folder)
    paths.create()
    jobs = read(folder)
    given = {"n_trials": count, "sampler": sampler, "seed": 3, "pruner": "median"}
    trials = Trials.open(
        check_study(given, "test"),
        space_of(*SPACE),
        paths,
        sweep_id="s1",
        study_name="study",
        earlier=jobs or None,
        rerun="timeout",  # not those that have failed
    )
    journal = os.open(folder / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(**record: Any) -> None:
        os.write(journal, (json.dumps(record) + "\n").encode())

    running = [job for job in jobs.values() if not job.state.is_final]
    while True:
        while len(running) < WIDTH and (asked := trials.ask()) is not None:
            note(num=asked.num, point=dict(asked.point))
            job = Job(asked.num, "", params=dict(asked.point))
            job.start(0.0, 1)
            running.append(job)
        if not running:
            break
        job = running.pop(0)
        fails = job.num % 5 == 4
        state = JobState.FAILED if fails else JobState.COMPLETED
        ending = trials.score(job, Ending(state, value=loss(job.params)), None)
        note(num=job.num, state=str(ending.state), objective=ending.objective)
        job.end(0.0, ending)
        trials.ended(job)
    trials.close()


if __name__ == "__main__":
    launch(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))

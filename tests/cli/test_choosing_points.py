"""`hsm sweep` chooses points: by a method, with a filter, in a random order, repeated."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from helpers.cli import Project, Ran

RANDOM = ("lr=tag(log, interval(1e-5, 1e-1))", "model=svm,forest", "--method", "random")


def points(project: Project, *words: str, command: Sequence[str] = ("true",)) -> list[Any]:
    """The points that a command line would run."""
    ran = project.here("sweep", *words, "--dry-run", "--json", "--", *command)
    return [json.loads(line)["params"] for line in ran.out.splitlines()]


def told_seed(ran: Ran) -> int:
    """The seed that a command line has told."""
    line = r"^hsm: seed (\d+) \(--seed \1 gives these points again\)$"
    [seed] = re.findall(line, ran.err, re.MULTILINE)
    return int(seed)


def recorded(project: Project, sweep_id: str) -> list[dict[str, Any]]:
    """The points of a sweep's jobs."""
    return [job.params for job in project.sweep(sweep_id).jobs.values()]


def test_points_drawn_at_random_run_like_any_others(project: Project) -> None:
    drawn = (*RANDOM, "--n-trials", "3", "--seed", "7")
    planned = points(project, *drawn)
    assert len(planned) == 3
    assert all(1e-5 <= point["lr"] <= 1e-1 for point in planned)
    ran = project.here("sweep", *drawn, "--sweep-id", "s", "--", "echo", "{lr}", "{model}")
    assert "3 jobs: 3 completed" in ran.out
    assert "seed" not in ran.err, "who gave it knows it"
    assert recorded(project, "s") == planned
    log = project.sweep("s").paths.stdout(0).read_text()
    assert log == f"{json.dumps(planned[0]['lr'])} {planned[0]['model']}\n"


def test_a_script_gets_drawn_values_as_arguments(project: Project) -> None:
    project.write("tell.py", "import sys; print(sys.argv[1:])")
    drawn = ("n=int(interval(1, 9))", "--method", "random", "--n-trials", "1", "--seed", "0")
    [point] = points(project, *drawn)
    project.here("sweep", *drawn, "--sweep-id", "s", "--script", "tell.py")
    assert project.sweep("s").paths.stdout(0).read_text() == f"['n={point['n']}']\n"


def test_a_seed_that_is_drawn_is_told_and_gives_the_points_again(project: Project) -> None:
    ran = project.here("sweep", *RANDOM, "--n-trials", "3", "--sweep-id", "s", "--", "true")
    seed = told_seed(ran)
    found = recorded(project, "s")
    assert points(project, *RANDOM, "--n-trials", "3", "--seed", str(seed)) == found
    chosen = {"method": "random", "n_trials": 3, "seed": seed}
    assert project.sweep("s").header["chosen"] == chosen
    assert project.here("show", "s", "--json").json["chosen"] == chosen
    assert f"points       method random, n_trials 3, seed {seed}" in project.here("show", "s").out


def test_a_plain_grid_has_no_word_on_choosing(project: Project) -> None:
    ran = project.here("sweep", "x=1,2", "--sweep-id", "s", "--", "true")
    assert "seed" not in ran.err
    assert "chosen" not in project.sweep("s").header
    assert "points " not in project.here("show", "s").out


def test_a_resume_has_the_same_points_without_naming_the_seed(project: Project) -> None:
    test = ("--", "sh", "-c", "test -e fixed")
    project.here("sweep", *RANDOM, "--n-trials", "3", "--sweep-id", "s", *test, code=1)
    before = recorded(project, "s")
    (project.folder / "fixed").touch()
    again = project.here("sweep", "--resume", "s", *RANDOM, "--n-trials", "5")
    seed = project.sweep("s").chosen["seed"]
    assert f"hsm: seed {seed}, as before\n" in again.err
    assert recorded(project, "s")[:3] == before
    assert project.states("s") == ["COMPLETED"] * 5
    assert [len(job.attempts) for job in project.sweep("s").jobs.values()] == [2, 2, 2, 1, 1]
    assert project.sweep("s").chosen["n_trials"] == 5
    # What is on record runs without any point being given, and how it was chosen stays known.
    project.here("sweep", "--resume", "s", "--rerun", "all")
    assert len(recorded(project, "s")) == 5
    assert project.sweep("s").chosen["seed"] == seed


def test_resume_of_a_directory_has_the_seed_too(project: Project) -> None:
    words = ("sweep", *RANDOM, "--n-trials", "2", "--sweep-id", "s")
    project.hsm(*words, "--", "true")
    ran = project.hsm(*words, "--", "true", HSM_LOCAL_RESUME="true")
    assert "2 of 2 jobs are already done" in ran.out
    assert len(recorded(project, "s")) == 2


def test_another_seed_gives_other_points_to_a_resumed_sweep(project: Project) -> None:
    words = (*RANDOM, "--n-trials", "2")
    project.here("sweep", *words, "--seed", "1", "--sweep-id", "s", "--", "true")
    project.here("sweep", "--resume", "s", *words, "--seed", "2")
    assert len(recorded(project, "s")) == 4


def test_a_shuffled_part_of_a_huge_grid(project: Project) -> None:
    huge = ("a=range(1000000)", "b=range(1000000)", "--shuffle", "--max-runs", "4")
    ran = project.here("sweep", *huge, "--count-only")
    assert ran.out == "4\n"
    some = points(project, *huge, "--seed", "5")
    assert some == points(project, *huge, "--seed", "5")
    assert len({point["a"] for point in some}) > 1


def test_the_command_line_wins_key_by_key(project: Project) -> None:
    text = "sweep: {params: {a: range(10)}, shuffle: true, seed: 1, max_runs: 3, filter: a > 4}"
    project.write("s.yaml", text)
    file = ("--config", "s.yaml")
    assert project.here("sweep", *file, "--count-only").out == "3\n"
    assert project.here("sweep", *file, "--max-runs", "4", "--count-only").out == "4\n"
    first = points(project, *file)
    assert all(point["a"] > 4 for point in first)
    assert [point["a"] for point in points(project, *file, "--filter", "a < 2")] in ([0, 1], [1, 0])
    plain = points(project, *file, "--no-shuffle")
    assert [point["a"] for point in plain] == [5, 6, 7]
    assert points(project, *file, "--repeat", "s=1,2")[:2] == [
        {**first[0], "s": 1},
        {**first[0], "s": 2},
    ]


def test_a_method_on_the_line_draws_from_a_file(project: Project) -> None:
    project.write("s.yaml", "sweep: {params: {a: [1, 2], b: 'interval(0, 1)'}}")
    refused = project.here("sweep", "--config", "s.yaml", "--count-only", code=2)
    assert "s.yaml, line 1: cannot sweep over 'b=interval(0, 1)'" in refused.err
    assert "--method random --n-trials 20" in refused.err
    drawn = ("--config", "s.yaml", "--method", "random", "--n-trials", "4", "--seed", "1")
    assert {point["a"] for point in points(project, *drawn)} <= {1, 2}
    assert all(point["a"] == 7 for point in points(project, *drawn, "a=7"))


def test_overrides_win_over_all_grids_of_a_file(project: Project) -> None:
    project.write("s.yaml", "sweep: {params: [{m: svm, C: [1, 2]}, {m: forest, n: [3, 4]}]}")
    assert points(project, "--config", "s.yaml", "C=5,6", "--also", "m=none") == [
        {"m": "svm", "C": 5},
        {"m": "svm", "C": 6},
        *({"m": "forest", "n": n, "C": C} for n in (3, 4) for C in (5, 6)),
        {"m": "none"},
    ]


def test_zip_and_also_on_the_line(project: Project) -> None:
    words = ("a=1,2", "--zip", "b=3,4 'c=\"x y\",z'", "--also", "a=9", "--also", "d=range(2)")
    assert points(project, *words) == [
        *({"a": a, "b": b, "c": c} for a in (1, 2) for b, c in ((3, "x y"), (4, "z"))),
        {"a": 9},
        {"d": 0},
        {"d": 1},
    ]
    assert project.here("sweep", "--zip", "a=1,2 b=3,4", "--count-only").out == "2\n"


def test_many_points_are_gone_through_to_count_those_that_a_filter_keeps(project: Project) -> None:
    words = ("a=range(150)", "b=range(150)", "--filter", "a == b", "--repeat", "s=1,2")
    ran = project.here("sweep", *words, "--count-only")
    assert ran.out == "300\n"
    assert ran.err == "hsm: looking for those of 22500 points that the filter keeps\n"
    few = project.here("sweep", "a=range(15)", "--filter", "a > 4", "--count-only")
    assert (few.out, few.err) == ("10\n", "")


def test_a_filter_may_be_a_function(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("of_choosing_points.py", "def fits(point):\n    return point['a'] % 2 == 1\n")
    monkeypatch.syspath_prepend(str(project.folder))
    words = ("a=range(5)", "--filter", "of_choosing_points.fits")
    assert [point["a"] for point in points(project, *words)] == [1, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x=1", "--method", "randm", "--n-trials", "3"], "--method must be"),
        (["x=1", "--method", "random"], "n_trials"),
        (["x=1", "--n-trials", "3"], "--n-trials"),
        (["x=1", "--method", "random", "--n-trials", "0"], "--n-trials must be"),
        (["x=1", "--method", "random", "--n-trials", "many"], "--n-trials must be"),
        (["x=1,2", "--shuffle", "--seed", "-1"], "--seed must be"),
        (
            ["x=1", "--filter", "y > 1"],
            "hsm: command line: cannot filter by 'y > 1': no point has a",
        ),
        (["x=1", "--filter", "__import__('os')"], "is not evaluated"),
        (["x=1", "--filter", "x >"], "cannot filter by 'x >': invalid syntax"),
        (["x=1,2", "--filter", "x > 2"], "keeps none of the points"),
        (["x=1", "--also", "y=1", "--method", "random", "--n-trials", "2"], "draws from one space"),
        (["x=interval(2,1)", "--method", "random", "--n-trials", "2"], "ends before it starts"),
        (["x=tag(log,interval(0,1))", "--method", "lhs", "--n-trials", "2"], "numbers above 0"),
        (["x=1", "--repeat", "x=1,2"], "x"),
        (["x=1", "--repeat", "seed"], "--repeat must be NAME=VALUES, as in seed=0,1,2, not 'seed'"),
        (["x=1", "--repeat", "s=1", "--repeat", "s=2"], "--repeat: 's' is given twice"),
        (["--zip", "x=1,2 y=3"], "values that advance together differ in number: x has 2, y has 1"),
        (["--zip", "x='1"], '--zip "x=\'1": no closing quotation'),
        (["--zip", " "], "--zip must be overrides separated by spaces"),
        (["x=1", "--zip", "x=1,2 y=3,4"], "x is given twice"),
        (["x=1", "--also", "y"], "--also: cannot use the override 'y': it has no ="),
        (["x=interval(0,1)"], "--method random --n-trials 20"),
        (["x=interval(0,1)", "--method", "grid"], "an interval has no list of values"),
        (["--zip", "x=interval(0,1) y=1", "--method", "random", "--n-trials", "2"], "no list of"),
        (["--method", "random", "--n-trials", "2"], "nothing to sweep over"),
    ],
)
def test_what_cannot_be_chosen_is_refused_before_any_job(
    project: Project, words: list[str], message: str
) -> None:
    refused = project.here("sweep", *words, "--sweep-id", "s", "--", "true", code=2)
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert not (project.folder / "outputs").exists()


def test_recorded_points_are_not_chosen_from(project: Project) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "s", "--", "true")
    refused = project.here("sweep", "--resume", "s", "--filter", "x > 1", code=2)
    assert "--filter chooses among points, and --resume alone runs those on record" in refused.err
    project.here("sweep", "--resume", "s", "--max-runs", "1", "--rerun", "all")
    assert [len(job.attempts) for job in project.sweep("s").jobs.values()] == [2, 1]


def test_points_may_be_added_to_a_random_search(project: Project) -> None:
    project.here("sweep", *RANDOM, "--n-trials", "2", "--sweep-id", "s", "--", "true")
    with project.detached("x=1,2", "--", "sh", "-c", "touch {job_dir}/runs; sleep 60"):
        project.here("add", "bg", "x=3")
        refused = project.here("add", "bg", "x=interval(0,1)", code=2)
        assert "an interval has no list of values" in refused.err


@pytest.mark.slow
def test_keys_that_a_hydra_app_lacks_are_refused_whatever_the_method(project: Project) -> None:
    project.write(
        "app.py",
        "import hydra\n\n\n"
        '@hydra.main(version_base=None, config_path="conf", config_name="config")\n'
        "def main(cfg):\n    print(cfg)\n\n\nmain()\n",
    )
    project.write("conf/config.yaml", "rate: 1\nseed: 0\n")
    app = ("--script", "app.py", "--dry-run")
    drawn = ("--method", "random", "--n-trials", "2", "--seed", "1")
    for words, message in [
        (("rte=interval(0,1)", *drawn), "no key 'rte'; did you mean rate?"),
        (("rate=1,2", "--repeat", "sed=1,2"), "no key 'sed'; did you mean seed?"),
        (("rate=1", "--also", "rate=2 sed=1"), "no key 'sed'"),
        (("rate=1", "--zip", "rate2=1 seed=1"), "no key 'rate2'"),
    ]:
        assert message in project.here("sweep", *words, *app, code=2).err
    ran = project.here("sweep", "rate=interval(0,1)", *drawn, "--repeat", "+x=1,2", *app)
    assert [line.split()[-2] for line in ran.out.splitlines()] == ["+x=1", "+x=2"] * 2

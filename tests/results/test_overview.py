"""What a person is shown of results: by `print`, and by a notebook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from helpers.html import Elements
from helpers.written_sweeps import Sweeps
from hsm.core.record.job import JobState
from hsm.core.results.results_table import Results

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e&amp; $x^2$ '\" |"


def _results(sweep: Sweeps, *jobs: tuple[dict[str, Any], Any]) -> Results:
    """Of jobs with these parameters and values; one that has no value failed."""
    sweep.submit(*(params for params, _ in jobs))
    for num, (_, value) in enumerate(jobs):
        if value is None:
            sweep.end(num, JobState.FAILED, exit_code=1)
        else:
            sweep.end(num, exit_code=0, value=value)
    return sweep.results()


@pytest.fixture(autouse=True)
def _terminal_of_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_print_shows_what_varies_and_says_once_what_does_not(sweep: Sweeps) -> None:
    results = _results(sweep, ({"lr": 0.1, "depth": 3}, 0.5), ({"lr": 0.01, "depth": 3}, 1 / 3))
    assert str(results).splitlines() == [
        "the same for all jobs: depth=3 attempts=1 duration=2.5 exit_code=0",
        "",
        "job  state        lr     value",
        "  0  COMPLETED   0.1       0.5",
        "  1  COMPLETED  0.01  0.333333",
    ]
    assert repr(results) == "<Results of sweep demo: 2 jobs, 12 columns>"


def test_a_single_job_is_shown_whole(sweep: Sweeps) -> None:
    results = _results(sweep, ({"lr": 0.1}, 0.5))
    assert str(results).splitlines() == [
        "job  state       lr  value  attempts  duration  exit_code",
        "  0  COMPLETED  0.1    0.5         1       2.5          0",
    ]


def test_a_failed_job_does_not_make_metrics_vary(sweep: Sweeps) -> None:
    one = {"loss": 0.5, "epochs": 50}
    results = _results(sweep, ({"x": 1}, one), ({"x": 2}, {**one, "loss": 1}), ({"x": 3}, None))
    above, _, heading, *_, failed = str(results).splitlines()
    assert "value.epochs=50" in above
    assert heading.split() == ["job", "state", "x", "value.loss", "exit_code", "reason"]
    assert failed.split() == ["2", "FAILED", "3", "1", "exit", "code", "1"]


def test_the_only_metric_is_shown_though_it_never_varies(sweep: Sweeps) -> None:
    results = _results(sweep, ({"x": 1}, 0.5), ({"x": 2}, 0.5))
    assert str(results).splitlines()[2].split() == ["job", "state", "x", "value"]


def test_the_sweeps_own_metric_is_shown_though_it_never_varies(tmp_path: Path) -> None:
    sweep = Sweeps(tmp_path / "s", metric="loss")
    results = _results(sweep, *(({"x": n}, {"loss": 1, "other": 2}) for n in range(2)))
    assert str(results).splitlines()[2].split() == ["job", "state", "x", "value.loss"]


def test_lists_and_long_texts_of_metrics_are_short_and_whole_in_files(sweep: Sweeps) -> None:
    text, curve = "word " * 40, [n / 3 for n in range(30)]
    keys = {f"key_{n}": n for n in range(4)}
    given = {"text": text, "curve": curve, "pair": [1, 2], "nested": [keys] * 2}
    results = _results(sweep, ({"x": 1}, given), ({"x": 2}, {**given, "curve": [1] * 50}))
    assert "value.curve" in str(results)
    assert "[30 values]" in str(results)
    assert "[50 values]" in str(results)
    assert "value.pair=[1, 2] value.nested=[2 values]" in str(results)
    assert "word …" not in str(results).splitlines()[-1]
    shown = results.select(["job", "value.text"]).overview(with_constants=True)
    assert shown.columns[1].cells[0] == "word word word word word word word word…"
    assert text in results.to_csv()
    assert text in results.to_json()
    assert text in results.to_markdown()
    assert "[50 values]" not in results.to_json()
    assert "50 values" in results.to_markdown()


def test_a_list_that_is_a_parameter_shows_its_start(sweep: Sweeps) -> None:
    results = _results(sweep, ({"sizes": [64] * 20}, 1), ({"sizes": [128] * 20}, 2))
    shown = str(results)
    assert "[64, 64, 64," in shown
    assert "[128, 128, 128," in shown


def test_of_many_rows_the_first_and_the_last_are_printed(sweep: Sweeps) -> None:
    results = _results(sweep, *(({"x": n}, n) for n in range(31)))
    lines = str(results).splitlines()
    numbers = [line.split()[0] for line in lines[3:34] if line]
    assert numbers == [*map(str, range(15)), "…", *map(str, range(16, 31))]
    assert lines[-1] == "31 jobs, 11 columns"
    assert len(str(_head(results, 30)).splitlines()) == 2 + 1 + 30


def test_a_wide_table_is_split_at_columns_and_headings_at_words(sweep: Sweeps) -> None:
    point = {f"optimizer.group_{n}/learning_rate_of_the_head": 0 for n in range(8)}
    results = _results(sweep, (point, 1), (dict.fromkeys(point, 1), 2))
    shown = str(results)
    assert max(map(len, shown.splitlines())) <= 80
    _, *tables = shown.split("\n\n")
    assert len(tables) == 2
    for table in tables:
        *above, last, _, row = table.splitlines()
        assert all(word[-1] in "._/" for line in above for word in line.split())
        assert {"job", "the_head"} <= {*last.split()}
        assert row.split()[0] == "1"


def test_without_jobs(sweep: Sweeps) -> None:
    results = sweep.results()
    assert str(results) == "no jobs"
    assert "no jobs" in results._repr_html_()


def test_html_has_all_columns_that_vary_and_escapes_every_text(sweep: Sweeps) -> None:
    point = {HOSTILE: HOSTILE, "x": 1, "same": HOSTILE}
    results = _results(sweep, (point, {"a": HOSTILE}), ({**point, "x": 2}, {"a": "b"}), ({}, None))
    html = results._repr_html_()
    assert not re.search(r"[\x1b\u202e]", html)
    assert "tex2jax_ignore" in html
    seen = Elements(html)
    assert set(seen.tags) == {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}
    shown = "".join(seen.texts)
    assert "<script>alert(1)</script>\\x1b[2J\\u202e&amp;" in shown
    assert "exit_code" in shown


def test_html_of_many_jobs_has_the_first_and_the_last(sweep: Sweeps) -> None:
    results = _results(sweep, *(({"x": n}, n) for n in range(100)))
    html = results._repr_html_()
    assert Elements(html).tags.count("tr") == 1 + 30 + 1 + 30
    assert "100 jobs, 11 columns" in html
    assert html.count("…") == 4


def _head(results: Results, count: int) -> Results:
    return results._with(results[:count], results.columns)

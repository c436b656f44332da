"""README and docs/: every block is run as a reader would, every table compared with its subject.

`make tables` writes the tables, and the repository's address, anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from helpers.address import PYPROJECT, README, address, clone_commands, told_address, write_address
from helpers.benchmark_tables import BENCHMARKS
from helpers.docs import MARKS, Page, pages, table
from helpers.processes import REPOSITORY, SOURCE
from helpers.reader import Reader, ShellPerBlock, write_program, write_python
from hsm.cli._commands import COMMANDS
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.large import Large
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.counterparts import COUNTERPARTS
from hsm.core.settings.resolve import SETTINGS
from hsm.core.space.definition import parse_overrides
from hsm.core.study.options import ALIASES, STUDY_KEYS, StudyOptions

pytestmark = pytest.mark.thorough

#: Seconds; far above what any block takes.
DEADLINE = 60.0
PAGES = pages()
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
_LONG = ("api", "command", "getting-started", "gpus", "launcher", "optimise", "reliability")
#: The mark of a page with many commands, each of which is a process or several. All blocks of the
#: README are run by tests/install as well.
LONG_PAGES = {
    "README.md": pytest.mark.long,
    **{f"docs/{name}.md": pytest.mark.slow for name in _LONG},
}


#: What a block is not run for, if its mark says so.
HARDWARE = ("a GPU", "a second machine")


def reader_of_this_hsm(folder: Path) -> Reader:
    """A reader who has installed the hsm that is tested, and begins in `folder`."""
    programs = folder.parent / "bin"
    write_python(programs / "python")
    write_program(
        programs / "hsm",
        f"#!{sys.executable}\nimport sys\nfrom hsm.cli.main import main\nsys.exit(main())\n",
    )
    steering = ("HSM_", "HYDRA_", "XDG_", "TMPDIR", "TERM", "COLUMNS")
    env = {k: v for k, v in os.environ.items() if not k.startswith(steering)}
    path = [str(SOURCE), env.get("PYTHONPATH", "")]
    env |= {
        "HOME": str(folder.parent),
        "HSM_GPU_LOCKS": str(folder.parent / "gpu-locks"),  # so that no other sweep has its GPUs
        "PATH": f"{programs}:{env['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    return Reader(ShellPerBlock(folder, env, DEADLINE))


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.name, marks=LONG_PAGES.get(page.name, ())) for page in PAGES],
)
def test_blocks(page: Page, project_dir: Path) -> None:
    blocks = page.blocks()
    with_example = any(
        "examples/train" in block.text for block in blocks if block.language == "bash"
    )
    if with_example:
        pytest.importorskip("sklearn")
        for name in ("examples", "conf"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, project_dir / name, ignore=ignored)
    reader = reader_of_this_hsm(project_dir)
    for block in blocks:
        # What installs is run on a clean machine, with the rest of its page: tests/install.
        if "install" not in block.marks and "skip" not in block.marks:
            try:
                reader.do(block)
            except BaseException as error:
                raise AssertionError(f"{page.name}, line {block.line}: {error}") from error


@every_page
def test_every_block_is_run_somewhere(page: Page) -> None:
    for block in page.blocks():
        place = f"{page.name}, line {block.line}"
        assert block.marks.keys() <= MARKS, place
        if "skip" in block.marks:
            assert block.marks["skip"] in HARDWARE, place
        if "install" in block.marks:
            assert page.name == "README.md", f"{place}: tests/install runs only the README"
        if "drawing" in block.marks:
            assert block.language == "text", place
            for name in re.findall(r"(?<![\w.])(?:hsm|hydra_plugins)/[\w/.*]*", block.text):
                assert list(REPOSITORY.glob(name.rstrip("/"))), f"{place}: there is no {name}"


@every_page
def test_links(page: Page) -> None:
    by_path = {each.path: each for each in PAGES}
    for target in page.links():
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in by_path[path].anchors(), f"{page.name} links to {target}"


@every_page
def test_names(page: Page) -> None:
    """Files, tests, settings and variables that a page names are there under that name."""
    for name in re.findall(r"`((?:hsm|hydra_plugins|tests|benchmarks)/[\w/.*]+)`", page.prose):
        assert list(REPOSITORY.glob(name)), name
    for name, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.prose):
        source = (REPOSITORY / name).read_text(encoding="utf-8")
        assert not test or re.search(rf"^ *(def|class) {test}\b", source, re.MULTILINE), test
    for name in re.findall(r"hydra\.launcher\.(\w+)", page.text):
        assert name in (*SETTINGS, "sweep_id")
    ours = "".join(p.read_text() for p in REPOSITORY.glob("hsm/**/*.py"))
    variables = {setting.variable for setting in SETTINGS.values()}
    variables |= {f"HSM_{state}" for state in JobState if state.is_final}
    for name in re.findall(r"\bHSM_\w+\b", page.text):
        assert name in variables or f'"{name}"' in ours, name


def test_the_distributions_name_and_its_extras() -> None:
    """What hsm and its pages say to install is there under that name."""
    pyproject = PYPROJECT.read_text()
    (name,) = re.findall(r'^\[project\]\nname = "(.+)"$', pyproject, re.MULTILINE)
    extras = pyproject.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    known = set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE))
    code = "".join(path.read_text() for path in REPOSITORY.glob("hsm/**/*.py"))
    asked = set(re.findall(r'import_extra\([\w".]+, "(\w+)"\)', code))
    assert asked == {"pandas", "parquet"}
    for text in (code, *(page.text for page in PAGES)):
        for told, extra in re.findall(r"pip install '([\w.-]+)\[([\w{}]+)\]'", text):
            assert told in (name, "."), told
            assert extra in known | {"{extra}"}, extra
    assert asked <= known


def test_make_targets() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    (recipe,) = re.findall(r"^demo:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    points = [word for word in recipe.split() if re.fullmatch(r"(model|model\.C|seed)=.+", word)]
    assert f"runs a sweep of {parse_overrides(points).count()} jobs" in PAGES[0].text


def test_the_repositorys_address_is_the_same_everywhere() -> None:
    assert told_address() == address(), "make tables writes it anew"
    assert clone_commands(address()) in README.read_text()
    links = re.findall(r"https://github\.com/[^\s\"')]+", PYPROJECT.read_text())
    assert len(links) >= 6
    assert [link for link in links if not f"{link}/".startswith(f"{address()}/")] == []


# --- tables
# -------------------------------------------------------------------------------------------------


def settings_table() -> list[str]:
    """The settings, for docs/settings.md."""
    header = ["setting", "default", "may be", "what it does"]
    rows = [
        [f"`{s.name}`", f"`{_shown(s.default)}`", s.kind.allowed, s.help] for s in SETTINGS.values()
    ]
    return table(header, rows)


def names_table() -> list[str]:
    """Under which name each place knows a setting."""
    header = ["hsm.yaml, below `local:`", "`hsm sweep`", "environment"]
    return table(
        header, [[f"`{s.name}`", f"`{s.flag}`", f"`{s.variable}`"] for s in SETTINGS.values()]
    )


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


_NONE = "\N{EN DASH}"


def counterparts_table(launcher: str) -> list[str]:
    """What hsm has in place of another launcher's settings."""
    rows = []
    for counterpart in COUNTERPARTS[launcher]:
        theirs, ours = (
            ", ".join(f"`{name}`" for name in names)
            for names in (counterpart.theirs, counterpart.ours)
        )
        remark = f"; {counterpart.remark}" if counterpart.remark else ""
        rows.append([theirs, f"{ours or _NONE}{remark}"])
    return table([f"{launcher}'s launcher", "`hydra/launcher=hsm_local`"], rows)


def faults_table() -> list[str]:
    """What a job can do wrong, and how that is told; straight from the tests of it."""
    sys.path.append(str(REPOSITORY / "tests" / "hydra_app"))
    from test_faults import FAULTS

    rows = []
    for name, fault in FAULTS.items():
        ending = Ending(
            JobState(fault.state),
            fault.exit_code,
            fault.signal,
            reason=fault.screen[0] if fault.state == "TIMEOUT" else None,
            error_type=fault.error,
            error_message=fault.message,
        )
        rows.append([name, fault.state, ending.describe()])
    return table(["job 1 …", "its state", "how that is told"], rows)


def commands_table() -> list[str]:
    """The commands of `hsm`."""
    return table(["command", ""], [[f"`hsm {name}`", line] for name, (_, line) in COMMANDS.items()])


def options_table(command: str) -> list[str]:
    """What a command takes, from what its `--help` is made of."""
    app = import_module(f"hsm.cli.{COMMANDS[command][0]}").app
    rows = []
    for parameter in typer.main.get_command(app).params:
        if parameter.name != "help":
            spellings = ", ".join(parameter.opts)
            if parameter.param_type_name == "argument":
                spellings = parameter.metavar or ""
            elif parameter.secondary_opts:
                spellings += f" / {', '.join(parameter.secondary_opts)}"
            elif parameter.metavar:
                spellings += f" {parameter.metavar}"
            text = " ".join((getattr(parameter, "help", "") or "").split())
            rows.append([f"`{spellings}`".replace("|", "\\|"), text.replace("|", "\\|")])
    return table(["", ""], rows) if rows else []


TABLES: dict[str, Callable[[], list[str]]] = {
    "settings": settings_table,
    "setting-names": names_table,
    **{f"moving-{name}": partial(counterparts_table, name) for name in COUNTERPARTS},
    "faults": faults_table,
    "commands": commands_table,
    **{f"options-{name}": partial(options_table, name) for name in COMMANDS},
    **BENCHMARKS,
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    expected = TABLES[name]()
    found = [page for page in PAGES if f"<!-- table: {name} -->" in page.text]
    assert found
    for page in found:
        assert page.tables().get(name, []) == expected, "make tables writes it anew"


def test_the_keys_of_a_study() -> None:
    """The table of them has all, and the defaults that are numbers or words."""
    (page,) = [page for page in PAGES if page.name == "docs/optimise.md"]
    keys, defaults = set(), {}
    for line in page.tables()["study-keys"][2:]:
        cells = line.split("|")
        names = re.findall(r"(?<!\()`(\w+)`", cells[1])
        keys.update(names)
        defaults[names[0]] = cells[2].strip(" `")
    assert keys == {*STUDY_KEYS, *ALIASES}
    for name, value in vars(StudyOptions()).items():
        if isinstance(value, int | str) and name != "n_jobs":
            assert defaults[name] == str(value).lower(), name


def test_the_journals_fields(tmp_path: Path) -> None:
    """The table of events in how-it-works.md has exactly the fields that are written."""
    (page,) = [page for page in PAGES if page.name == "docs/how-it-works.md"]
    told = {}
    for line in page.tables()["journal"][2:]:
        event, names = (re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:3])
        told[event[0]] = set(names)
    written = _written_fields(tmp_path)
    # There only in a repository, where Hydra is in use, and for what is large or much.
    assert told.pop("sweep") - {"hydra", "git", "large"} == written.pop("sweep") - {
        "hydra",
        "git",
    }
    assert told.pop("resume") - {"hydra", "git", "large"} == written.pop("resume") - {
        "hydra",
        "git",
    }
    assert told.pop("submit") - {"more"} == written.pop("submit")
    assert told == written


def _written_fields(folder: Path) -> dict[str, set[str]]:
    facts = {
        "chosen": {"method": "random", "seed": 1},
        "planned": 1,
        "points": {"overrides": ["x=1"]},
        "gpus": [{"id": 0}],
    }
    journal = Journal(SweepPaths(folder), "sweep", {}, facts=facts)
    job = Job(0, "sweep_0", job_dir=folder)
    details: dict[str, Any] = {field.name: "x" for field in fields(Ending)}
    details["large"] = {"reason": Large(journal.paths, lost="no room")}
    failed = Ending(**{**details, "state": JobState.FAILED})
    journal.submit([job])
    for again in (True, False):
        attempt = job.start(1.0, 1)
        attempt.slot, attempt.gpus, attempt.waited, attempt.metrics = 0, [0], 0.0, 1
        journal.start(job)
        if again:
            job.retry(2.0, failed)
            journal.retry(job)
    job.end(2.0, failed)
    journal.end(job)
    for _ in ("resume", "requeue"):
        journal.resume([job])
    journal.append("control", request="continue")
    journal.close("finished")
    lines = map(json.loads, journal.paths.journal.read_text().splitlines())
    return {line.pop("event"): set(line) for line in lines}


if __name__ == "__main__":
    write_address()
    PAGES = pages()
    for each in PAGES:
        for table_name, make in TABLES.items():
            if f"<!-- table: {table_name} -->" in each.text:
                each.replace_table(table_name, make())

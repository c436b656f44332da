"""Text that others wrote reaches no terminal as more than text, nor a spreadsheet or a web page."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import logging
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from helpers.cli import Project
from helpers.processes import SOURCE
from helpers.sweeps import PROFILE
from hsm.cli._complete import job_numbers, sweep_ids
from hsm.cli.main import run
from hsm.core.command_line import join_command
from hsm.core.errors import HsmError, SettingsError
from hsm.core.logger import get_logger
from hsm.core.printable import printable, printable_json, printable_lines
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import register
from hsm.core.results.results_table import Results

pytestmark = pytest.mark.thorough

#: Each of these does something to a terminal, to one that reads eight bits, or to the eye.
HOSTILE = [
    "\x1b[2J\x1b[Hgone",  # clears the screen
    "\x1b]0;title\x07\x1b]52;c;cm0=\x1b\\",  # sets the title, and the clipboard
    "\x9b2J\x9d0;title\x9c",  # the same in C1 controls
    "\x1bPq#0~\x1b\\\x1b_apc\x1b\\\x1bc",  # draws a picture, resets
    "\x1b\x1b[31m[2J",  # what is left when a part is taken away is one again
    "a\rb\x08c\x07d\x00e\x7ff",
    "one\ntwo\x0b\x0cthree\x85four\u2028five\u2029",
    "\u202eevil\u202c \u2066x\u2069 \u200e\u200f\u061c",  # turn the direction of writing
    "\U000e0041\U000e007f\ufeff\u200b\u00ad\u2060",  # is not seen
    "e" + "\u0301" * 500,  # is drawn over other lines
    "\ud800\udc9b\udfff",  # not of UTF-8; stands for a byte of a file's name
    "[bold red]x[/bold red] [link=http://x]y[/] [/]",  # rich's markup
]
TEXTS = st.sampled_from(HOSTILE) | st.text(st.characters(codec=None), max_size=40)
#: What hsm itself sends to a terminal: colours, the cursor of the live view, erased lines.
_OURS = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[hl]|[0-9]*[AK]|2K)|\r(?=\x1b|\n)")


def only_prints(shown: str) -> bool:
    """Whether there is nothing but lines of characters that print, and what is hsm's own."""
    return all(line.isprintable() for line in _OURS.sub("", shown).split("\n"))


# --------------------------------------------------------------------------------- one function


@settings(PROFILE, max_examples=500)
@given(TEXTS)
def test_a_text_becomes_one_line_that_prints(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode()
    assert printable_lines(text).replace("\n", "").isprintable()
    if text.isascii() and text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lr=0.1 验证 é 👍 ━━━━━━━━━━━━━", "lr=0.1 验证 é 👍 ━━━━━━━━━━━━━"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\x1b[2J\u202eb\n", "a\\x1b[2J\\u202eb\\n"),
        ("\U000e0041\udc9b", "\\U000e0041\\udc9b"),
        ("12\u00a0km\u3000", "12 km "),
        ("e" + "\u0301" * 500 + "x", "e" + "\u0301" * 8 + "x"),
        ("नमस्ते สวัสดี", "नमस्ते สวัสดี"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("start", ["\x9d", "\x1b]", "\x1b[", "\x9b1", "\x90\x1b", "\u0301"])
def test_a_long_text_is_looked_through_once(start: str) -> None:
    """Each of them begins something that never ends; looked for anew each time it takes long."""
    from hsm.display.text import clean

    assert printable(start * 100_000).isprintable()
    assert clean(start * 100_000).isprintable()


@settings(PROFILE, max_examples=200)
@given(st.recursive(TEXTS, lambda inner: st.dictionaries(TEXTS, inner, max_size=3), max_leaves=4))
def test_json_keeps_its_values(value: Any) -> None:
    text = printable_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == json.loads(json.dumps(value))


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh", "ksh", "fish"])
def test_a_command_line_that_is_shown_can_be_pasted(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    words = [
        "a b",
        "it's\\",
        "$(id) `id` !x",
        "\\\\ %s \\' ~ {a,b} [x] *",
        "-e\t'\\%d\x1b!$(id)`id`",
        "\x1b[2J'\\\n.",
        "\u202e é",
        "\udc9bx",
        "\x9b",
        "",
        "'\x01",
    ]
    line = join_command(words)
    assert line.isprintable()
    command = [shell, "-c", f"printf '%s\\0' {line}"]
    told = subprocess.run(command, capture_output=True, check=True).stdout
    assert told.split(b"\0")[:-1] == [word.encode(errors="surrogateescape") for word in words]


# ----------------------------------------------------------------------------------- every command


class Screen(io.StringIO):
    """Takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def shown_by(*arguments: str) -> str:
    """All that a command line writes onto a terminal."""
    out = Screen()
    handler = signal.getsignal(signal.SIGPIPE)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            run(arguments)
    finally:
        signal.signal(signal.SIGPIPE, handler)
    return out.getvalue()


def plant(directory: Path, text: str) -> SweepPaths:
    """A sweep whose record, results and logs hold `text` wherever a text can be."""
    paths = SweepPaths(directory)
    paths.create()
    name = printable(text).replace("/", "")[:50]  # of another, the record is refused
    header = {"v": 1, "event": "sweep", "sweep_id": f"s{name}", "pid": 1, "host": f"h{text}"}
    program = {"command": ["sh", f"-c{text}", "{x}"], "script": None, "uses_hydra": False}
    jobs = [
        {"job": n, "id": f"s_{n}{name}", "label": f"x={text}", "params": {f"x{text}": text, "x": n}}
        for n in range(4)
    ]
    started = [{"event": "start", "job": n, "attempt": 1, "pid": 1, "time": 3.0} for n in range(3)]
    failed = {"error_type": f"E{text}", "error_message": f"m{text}", "signal": f"SIG{text}"}
    end = {"event": "end", "attempt": 1, "exit_code": 1, "time": 4.0}
    records = [
        {**header, "time": 1.0, "cwd": "/nowhere", "argv": [text], "program": program},
        {"event": "submit", "jobs": jobs, "time": 2.0},
        *started,
        {**end, "job": 0, "state": "FAILED", **failed},
        {**end, "job": 1, "state": "COMPLETED", "value": {f"k{text}": [text]}, "reason": text},
        {"event": f"e{text}", "time": 5.0},
        {**end, "job": 0, "state": f"S{text}"},
        {"event": "close", "reason": f"r{text}", "time": 6.0},
    ]
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    paths.journal.write_text(lines + f'{{"event": "{text}\n', errors="replace")
    for num in range(3):
        paths.stdout(num).write_text(f"{text}\n" * 3, errors="surrogatepass")
        paths.stderr(num).write_text(f"{text}\n" * 3, errors="surrogatepass")
        paths.job_dir(num).mkdir(exist_ok=True)
        (paths.job_dir(num) / "results.json").write_text(json.dumps({text: text, f"={text}": 1}))
        (paths.job_dir(num) / "metrics.json").write_text("{" + text, errors="replace")
    return paths


@pytest.mark.slow
@settings(
    PROFILE,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.text(st.characters(codec=None), max_size=30))
@example("".join(HOSTILE))
@example("\x1b[2J[/bold]")
@example("\x9d0;x\x9c$(touch x)\u202e")
def test_no_command_but_logs_sends_it_to_a_terminal(
    project: Project, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("TERM", "xterm")
    name = "d" + re.sub(r"[\0/]", "", text).encode(errors="replace")[:100].decode(errors="replace")
    directory = project.folder / name
    shutil.rmtree(directory, ignore_errors=True)
    plant(directory, text)
    register(f"s{text}", directory)
    (project.folder / "hsm.yaml").write_text(json.dumps({"output_dir": name, f"k{text}": text}))
    where = str(directory)
    typed = text.replace("\0", "")
    for arguments in [
        ["list"],
        ["list", "--json"],
        *(["show", where, num, *more] for num in "012" for more in ([], ["--json"])),
        ["show", where, "9"],
        ["show", f"s{typed}", "0"],
        ["monitor", where, "--once"],
        ["monitor", where, "--json"],
        ["monitor", where, "--progress", "plain"],
        ["monitor", where, "--progress", "rich", "--show-output"],
        *(["collect-results", where, "--format", kind] for kind in ("table", "csv", "md", "json")),
        ["collect-results", where, "--columns", typed],
        ["collect-results", where, "--group-by", typed],
        ["collect-results", where, "--over", f"k{text}"],
        ["collect-results", where, "--only", typed],
        ["collect-results", where, "--output", f"x/{typed}.csv"],
        ["cancel", where],
        ["cancel", typed],
        ["pause", where],
        ["continue", typed],
        ["explain", where, "0"],
        ["set", where, "0", "--priority", typed],
        ["set", where, "--timeout", typed],
        ["logs", where, "0", "--plain"],
        ["logs", where, "0", "--plain", "--stderr", "-n", "2"],
        ["logs", where, "3"],
        ["sweep", "--resume", where, "--dry-run"],
        ["sweep", "--resume", where, "--dry-run", "--json"],
        ["sweep", f"x={typed}", "--dry-run", "--sweep-dir", f"o{typed}", "--", "echo", typed],
        ["sweep", typed, "--script", typed],
        ["sweep", "--timeout", typed, f"--{typed}"],
        ["config"],
        ["config", "--hsm-config", typed],
        [typed],
    ]:
        shown = shown_by(*arguments)
        assert only_prints(shown), (arguments, shown)
        assert "Traceback" not in shown, (arguments, shown)


def on_terminal(folder: Path, *command: str) -> str:
    """All that a command writes onto a terminal of its own, until it ends."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        env = {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm", "COLUMNS": "100"}
        os.execve(sys.executable, [sys.executable, *command], env)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while data := os.read(fd, 65536):
            shown += data
    os.close(fd)
    os.waitpid(pid, 0)
    return shown.decode(errors="replace")


_APP = """\
import sys
import hydra

@hydra.main(version_base=None, config_path=None)
def app(config):
    print(config.x)
    print("\\x1b]0;title\\x07\\u202e", file=sys.stderr)
    sys.exit(3)

app()
"""


def test_a_running_sweep_is_shown_as_text(project: Project) -> None:
    text = "a\x1b[2J\u202e\x9b2J[bold]"
    project.write("points.jsonl", json.dumps({"x": text}) + "\n")
    # What jobs print is read while the view is live, and once more as the reason of a failure.
    job = "printf '%s\\n' \"$0\"; printf '%s\\n' \"$0\" >&2; exit 3"
    shown = on_terminal(
        project.folder,
        *("-m", "hsm.cli.main", "sweep", "--config", "points.jsonl", "--show-output"),
        *("--sweep-dir", f"out{text}", "--", "sh", "-c", job, "{x}"),
    )
    assert only_prints(shown), shown
    assert "x=a\\x1b[2J\\u202e\\x9b2J[bold]" in shown
    assert "a\\u202e[bold]" in shown


@pytest.mark.slow
def test_a_running_hydra_sweep_is_shown_as_text(project: Project) -> None:
    project.write("app.py", _APP)
    shown = on_terminal(
        project.folder,
        *("app.py", "-m", "hydra/launcher=hsm_local", "hydra.launcher.show_output=true"),
        *("+x='a\x1b[2J\u202e'", "hydra.sweep.dir='out\x1b[2J'"),
    )
    assert only_prints(shown), shown
    assert "x='a\\x1b[2J\\u202e'" in shown


def test_how_to_go_on_with_a_hydra_sweep_is_shown_as_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hsm.core.engine.interrupts import Interruption
    from hsm.display import wording as report
    from hsm.hydra_app.sweep_ending import resume_command

    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "-m", "x='\x1b[2J'"])
    paths = SweepPaths(tmp_path / "\x1b]0;t\x07")
    lines = report.interrupted(Interruption(signal.SIGINT), paths, resume_command(paths, "/"))
    told = "".join(f"{line}\n" for line in lines)
    assert only_prints(told)
    assert "\x1b" not in told
    assert r"$(printf 'x=\047\033[2J\047')" in told


def test_logs_are_raw_and_plain_ones_are_not(project: Project) -> None:
    written = "".join(HOSTILE[:5]) + HOSTILE[6] + "\n\tlast 10%\r100%"
    paths = plant(project.folder / "d", "x")
    paths.stdout(0).write_text(written)
    raw = project.hsm("logs", "d", "0")
    assert raw.out.replace("\r\n", "\n") == written.replace("\r", "\n").replace("\r\n", "\n")
    plain = project.hsm("logs", "d", "0", "--plain").out
    assert only_prints(plain)
    assert "\x1b" not in plain
    assert plain.splitlines()[0] == "gone\\x1b[2Jone"
    assert plain.splitlines()[-1] == "100%"
    assert project.hsm("logs", "d", "0", "--plain", "-n", "1").out == "100%\n"


def test_what_a_shell_completes_runs_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is offered goes through zsh's `eval`."""
    monkeypatch.chdir(project.folder)
    text = "\\$(touch ran) \\`touch ran` [/bold] \"' \x1b[2J"
    plant(project.folder / "d", text)
    register(f"s{text}", project.folder / "d")
    register("good", project.folder / "d")
    assert sweep_ids("") == ["good", "last"]
    for shell in ("zsh", "bash", "fish"):
        line = "hsm show d "
        env = {"_HSM_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
        env |= {"COMP_WORDS": line, "COMP_CWORD": "3", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        ran = project.hsm(code=None, **env)
        told = ran.out
        assert "1" in told, (shell, ran)
        assert not re.search(r"[$`\\]|\x1b", told), shell


_WAYS_OUT = ("hsm/cli/_stdout.py", "hsm/cli/_printing.py", "hsm/core/logger.py")


def test_commands_and_loggers_have_one_way_out() -> None:
    """`say` and the loggers of hsm's are what the promise rests on: nothing goes past them."""
    past = []
    for path in [*SOURCE.glob("hsm/**/*.py"), *SOURCE.glob("hydra_plugins/**/*.py")]:
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or name in _WAYS_OUT:
                continue
            called = ast.unparse(node.func)
            prints = called in ("print", "typer.echo", "sys.stdout.write", "sys.stderr.write")
            if (prints and name.startswith("hsm/cli/")) or (
                called == "logging.getLogger" and node.args
            ):
                past.append(f"{name}: {called}")
    assert not past


def test_a_log_line_and_its_traceback_are_text() -> None:
    stream = io.StringIO()
    logger, handler = get_logger("hsm.tests.terminals"), logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logger.exception("%s%% of %s", 5, "\x9b2J\n")
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue().startswith("5% of \\x9b2J\\n\nTraceback")
    assert only_prints(stream.getvalue())


@pytest.mark.parametrize("text", HOSTILE)
def test_errors_are_text(text: str) -> None:
    for error in (HsmError(text), SettingsError("k", text, text, text, text)):
        assert str(error).isprintable()


def test_a_bug_of_hsm_is_told_in_text(project: Project) -> None:
    code = (
        "import sys; from hsm.cli import main, show\n"
        "def fails(*args, **options): raise RuntimeError('\\x1b[2J')\n"
        "show.sweep_and_job = fails\n"
        "sys.argv = ['hsm', 'show', 's', '0']; main.main()"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: \\x1b[2J" in done.stderr
    assert only_prints(done.stderr)


# ----------------------------------------------------------------------------- CSV and Markdown


def _table(*rows: dict[str, Any]) -> Results:
    return Results(rows, rows[0], sweep_id="s", paths=SweepPaths("s"))


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        '=HYPERLINK("http://x")',
        "+1+cmd|' /C calc'!A0",
        "-1+1",
        "-x",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "\ufeff=1",
        "\u00a0-x",
        "\uff1d1+1",
        "\uff0bx",
        "\uff0dx",
        "\uff20x",
    ],
)
def test_a_csv_cell_is_no_formula(text: str) -> None:
    table = _table(
        {text: text, "list": [text], "n": -0.5, "i": -3, "t": "-0.5", "inf": -float("inf")}
    )
    names, cells = csv.reader(io.StringIO(table.to_csv(), newline=""))
    assert names[0] == cells[0]
    assert names[0].startswith("'")
    assert names[0].replace("'", "") == text.replace("'", "")
    assert cells[2:] == ["-0.5", "-3", "-0.5", "-inf"]


def test_a_cell_that_another_spreadsheet_would_part_is_no_formula() -> None:
    text = _table({"a": "x;=1+1", "b": "x\n=1+1\t@x"}).to_csv()
    assert not re.search(r"[;\t\n]\s*[=+@-]", text)


@settings(PROFILE, max_examples=300)
@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_a_csv_cell_comes_back_as_it_was_but_for_apostrophes(texts: list[str]) -> None:
    texts = [text.encode(errors="replace").decode().replace("\0", "") for text in texts]
    row = {f"c{n}": text for n, text in enumerate(texts)}
    _, cells = csv.reader(io.StringIO(_table(row).to_csv(), newline=""))
    for cell, text in zip(cells, texts, strict=True):
        assert cell.replace("'", "") == text.replace("'", "")
        assert cell == text or re.search(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", text)
    screen = Screen()
    _table(row).to_csv(screen)
    assert only_prints(screen.getvalue())
    assert screen.getvalue().count("\n") == 2


class _Html(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if data.strip("\n"):
            self.cells[-1] += data


_MARKUP = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "![x](http://x/y.png) [x](javascript:alert(1)) [x]: y",
    "a|b \\| `code` ``c`` **b** __b__ _i_ *i* ~~s~~ max_memory &lt; &amp; <http://x>",
    "\\[x](y) \\\\`x` <!-- x --> $x$ # x\n\n- x",
]


@settings(PROFILE, max_examples=300)
@given(st.sampled_from(_MARKUP) | TEXTS | st.text("<>&|`[]()!*_~\\ xa:/\n", max_size=20))
@example(_MARKUP[0])
@example(_MARKUP[1])
@example(_MARKUP[2])
@example(_MARKUP[3])
def test_markdown_shows_the_text(text: str) -> None:
    shown = printable(re.sub(r"[\n\r\t]", " ", text))
    written = _table({"h": 1, text or "x": text, "end": "z"}).to_markdown()
    assert all(line.isprintable() for line in written.split("\n"))
    page = _Html(
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(written)
    )
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    head, row = page.cells[:3], page.cells[3:]
    assert row == ["1", shown.strip(" "), "z"]
    assert head == ["h", (shown if text else "x").strip(" "), "end"]


def test_labels_that_are_completed_are_short_and_plain(project: Project) -> None:
    plant(project.folder / "d", "x" * 5000 + "\x1b")

    context: Any = SimpleNamespace(params={"sweep": str(project.folder / "d")})
    offered = job_numbers(context, "")
    assert [num for num, _ in offered] == ["0", "1", "2", "3"]
    for _, label in offered:
        assert len(label) <= 100
        assert label.isprintable()

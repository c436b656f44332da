"""A script that jobs run as it was at launch sees what `python train.py` sees, and shows no hsm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import first_fast
from hsm.core.program.kept_script import KeptScript

#: Prints all that a script can learn of how it was started.
_LOOKS = '''#!/usr/bin/env python3
# -*- coding: latin-1 -*-
"""The documentation, caf\xe9."""
from __future__ import annotations
import sys
import neighbour
rate: int = 1
print({name: value for name, value in globals().items() if name != "neighbour"}, __doc__)
print(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.excepthook, sys.modules["__main__"])
read_with = "io", "encodings"  # Python 3.15 imports io for a .py
print(sorted(name for name in sys.modules if not name.startswith(read_with)))
def fit():
    assert rate == 2, "no hsm"
import inspect, traceback
print(inspect.getsource(fit), fit.__code__, [frame.filename for frame in inspect.stack()])
traceback.print_stack()
fit()
'''
_STARTS_A_CHILD = """\
import multiprocessing, sys
import neighbour
def look(path):
    return __file__, sys.argv[0], __name__, sys.path == path
if __name__ == "__main__":
    sys.path.insert(0, "first")
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        print(pool.map(look, [sys.path]))
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept").mkdir()
    Path("src").mkdir()
    Path("src", "neighbour.py").touch()


def _write(text: str, name: str = "src/fit.py") -> str:
    Path(name).write_text(text, encoding="latin-1")
    return name


def _run(words: tuple[str, ...]) -> tuple[int, str, str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    out, err = (re.sub("0x[0-9a-f]+", "0x", text) for text in (done.stdout, done.stderr))
    return done.returncode, out, err


def _words(path: str) -> tuple[str, ...]:
    return (sys.executable, "-u", path, "lr=0.1")


def _kept(script: KeptScript) -> tuple[str, ...]:
    return script.command(_words(script.path), Path("kept").absolute())


@pytest.mark.parametrize(
    "path", first_fast("src/fit.py", "./src/fit.py", "src/../src/fit.py", "link.py", "empty.py")
)
def test_it_sees_what_it_would_see_under_python(path: str) -> None:
    _write(_LOOKS)
    _write("", "empty.py")
    os.symlink("src/fit.py", "link.py")
    expected = _run(_words(path))
    words = _kept(KeptScript(path))
    assert words != _words(path)
    assert Path(path).name in words[2]  # so says ps, and pkill -f finds it
    assert _run(words) == expected
    assert expected[0] == (path != "empty.py")


@pytest.mark.parametrize(
    "variable", first_fast("PYTHONOPTIMIZE", "PYTHONSAFEPATH", "PYTHONWARNINGS", "PYTHONVERBOSE")
)
def test_the_interpreters_variables_mean_what_they_mean(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    path = _write("import sys\nprint(sys.path[0], __debug__)\nassert 0\nimport neighbour\n")
    script = (
        "import pathlib, sys\nfrom hsm.core.program.kept_script import KeptScript\n"
        "print(*KeptScript(sys.argv[1]).command(sys.argv[1:], pathlib.Path('kept').absolute()))"
    )
    monkeypatch.setenv(variable, "error" if variable == "PYTHONWARNINGS" else "1")
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    (code, out, _), expected = _run((sys.executable, done.stdout.strip())), _run(_words(path))
    assert (code, out) == expected[:2]


@pytest.mark.parametrize("becomes", first_fast("edited", "gone"))
def test_after_an_edit_tracebacks_show_the_lines_that_ran(becomes: str) -> None:
    path = _write(_LOOKS)
    expected = _run(_words(path))
    script = KeptScript(path)
    if becomes == "edited":
        _write("# edited\n" * 30)
    else:
        Path(path).unlink()
    code, out, err = _run(_kept(script))
    assert 'in fit\n    assert rate == 2, "no hsm"\n' in err
    assert "hsm/" not in err
    assert "edited" not in out + err
    assert (code, err) == (expected[0], expected[2])


@pytest.mark.parametrize("becomes", first_fast("edited", "gone", "the same"))
@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_multiprocessing_finds_it_as_main(method: str, becomes: str) -> None:
    path = _write(_STARTS_A_CHILD.format(method=method))
    script = KeptScript(path)
    if becomes == "edited":
        _write("raise ValueError('edited')")
    elif becomes == "gone":
        Path(path).unlink()
    out = f"[('{Path(path).absolute()}', '{path}', '__mp_main__', True)]\n"
    assert _run(_kept(script)) == (0, out, "")


@pytest.mark.parametrize("text", ["x = (", "\0", "\xe9 = 1"])
def test_what_python_cannot_compile_runs_from_its_file_which_shows_why(text: str) -> None:
    path = _write(text)
    assert _kept(KeptScript(path)) == _words(path)


def test_a_copy_that_somebody_removed_is_made_again() -> None:
    script = KeptScript(_write("print('ran')"))
    (kept,) = (Path(word) for word in _kept(script) if word.endswith(".pyc"))
    kept.unlink()
    assert _run(_kept(script)) == (0, "ran\n", "")
    assert os.listdir("kept") == [kept.name]

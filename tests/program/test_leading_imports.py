"""Imports that a script begins with, and what modules of one's own may do to be among them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hsm.core.program.leading_imports import LeadingImports, leading_imports


def _find(script: str, *, trusts: bool = False) -> LeadingImports:
    return leading_imports(ast.parse(script).body, str(Path.cwd()), trusts=trusts)


def _jobs_begin_with(script: str) -> str:
    """The first statement that jobs run themselves."""
    body = ast.parse(script).body
    end = _find(script).end
    return ast.unparse(body[end]) if end < len(body) else ""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("script", "begins"),
    [
        ("", ""),
        ("'''Doc.'''\nfrom __future__ import annotations\nimport sys, json\nx = 1", "x = 1"),
        ("import os\nos.environ['A'] = '1'\nimport json", "os.environ['A'] = '1'"),
        ("import os\nif True:\n    import json", "if True:\n    import json"),
        ("import os\ntry:\n    import json\nfinally:\n    pass", "try:"),
        ("import os\n'text'\nimport json", "'text'"),
        ("import pytest, _pytest.python\nfrom hydra.core import utils\nx = 1", "x = 1"),
        ("import os, nowhere_to_be_found\nx = 1", "import os, nowhere_to_be_found"),
    ],
)
def test_they_end_where_anything_else_comes(script: str, begins: str) -> None:
    assert _jobs_begin_with(script).startswith(begins)
    assert (begins == "") == (_jobs_begin_with(script) == "")


@pytest.mark.parametrize(
    "harmless",
    [
        "'''Doc.'''\nimport os\nNAMES = ['a', *('b',)]\nHERE = os.path.dirname(__file__)",
        "import logging\nlog = logging.getLogger(__name__)\nWIDTH: int = 3\nWIDTH += 1",
        "class A(dict):\n    x = 1\n    def f(self): return open('x')",
        "import functools\n@functools.lru_cache(maxsize=None)\ndef f(a, b=1): return input()",
        "try:\n    import json\nexcept ImportError:\n    json = None",
        "if __name__ == '__main__':\n    run(open('x'))",
        "import os\nDEVICE = os.environ.get('DEVICE', 'cpu')\nf = lambda: open('x')",
        "from . import first\nfrom .first import A",
        "import circle",
    ],
)
def test_modules_of_ones_own_that_define_things_are_among_them(harmless: str) -> None:
    Path("pack").mkdir()
    Path("pack/__init__.py").write_text("")
    Path("pack/first.py").write_text("import pack.second\nA = 1\n")
    Path("pack/second.py").write_text(harmless)
    Path("circle.py").write_text("import pack.second\n")
    assert _find("from pack.second import f\nx = 1") == LeadingImports(1, 1)


@pytest.mark.parametrize(
    "harmful",
    [
        "import uuid\nRUN = uuid.uuid4()",
        "import time\n\nclass A:\n    began = time.time()",
        "import numpy\ndef f(generator=numpy.random.default_rng()): ...",
        "import sys\nNAME = sys.argv[1]",
        "import argparse\nargs = argparse.ArgumentParser().parse_args()",
        "for i in range(3):\n    print(i)",
        "with open('x') as file: pass",
        "x = [open(name) for name in ('a',)]",
        "if True:\n    open('x')",
        "try:\n    pass\nexcept OSError:\n    pass\nelse:\n    open('x')",
        "import register\n@register.add(open('x'))\nclass A: ...",
        "import third",
        "this is no Python",
    ],
)
def test_modules_of_ones_own_that_do_more_are_not(harmful: str) -> None:
    Path("first.py").write_text("import second\n")
    Path("second.py").write_text(harmful)
    Path("third.py").write_text("import random\nx = random.random()\n")
    found = _find("import json\nimport first\nimport sys")
    assert (found.end, found.statements) == (1, 1)
    assert found.why
    assert _find("import json\nimport first\nimport sys", trusts=True).end == 3


def test_installed_packages_are_known_by_what_pip_leaves_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in ("deps", "src", "lib/site-packages"):
        Path(folder).mkdir(parents=True)
        monkeypatch.syspath_prepend(str(Path(folder).absolute()))
    Path("deps/thing-1.0.dist-info").mkdir()
    for path in ("deps/thing.py", "src/other.py", "lib/site-packages/third.py"):
        Path(path).write_text("open('x')\n")
    assert _jobs_begin_with("import thing\nimport third\nimport other") == "import other"
    assert _find("import other").why == "other.py does more than define things (line 1)"

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from hsm.core.errors import SettingsError
from hsm.core.program.hydra_script import uses_hydra_main
from hsm.core.program.program import find_program
from hsm.core.settings.resolve import HsmConfig


def script(name: str, text: str = "", *, mode: int = 0o644) -> str:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(dedent(text))
    path.chmod(mode)
    return name


def train(params: Any) -> None:
    """A job's function."""


# --- command lines
# -------------------------------------------------------------------------------------------------


def test_a_function_has_no_command_line() -> None:
    program = find_program(function=train)
    assert program.function is train
    assert program.command_for({"x": 1}, "/job") is None


def test_a_command_places_parameters() -> None:
    program = find_program(command=["echo", "--lr={lr}", "{job_dir}/out", "{{x}}", "$HOME;"])
    assert program.command_for({"lr": 0.1}, Path("/sweep/3")) == (
        *("echo", "--lr=0.1", "/sweep/3/out", "{x}", "$HOME;"),
    )


def test_a_command_line_is_split_into_words_but_not_run_by_a_shell() -> None:
    program = find_program(command="echo 'a b' {x} > /dev/null")
    assert program.command_for({"x": 1}, "/job") == ("echo", "a b", "1", ">", "/dev/null")


def test_a_command_that_places_what_no_job_has_is_refused() -> None:
    program = find_program(command="echo {lr}")
    with pytest.raises(SettingsError, match=r"\{lr\}"):
        program.command_for({"seed": 1}, "/job")


def test_a_python_script_gets_its_parameters_as_hydra_writes_them() -> None:
    program = find_program(script=script("train.py"))
    params = {
        "lr": 1e-3,
        "model.name": "a b",
        "on": True,
        "none": None,
        "list": [1, "x,y"],
        "e": "",
    }
    assert program.command_for(params, "/job") == (
        *(sys.executable, "-u", "./train.py", "lr=0.001", "model.name='a b'", "on=true"),
        *("none=null", "list=[1,'x,y']", "e=''"),
    )


def test_an_executable_script_is_run_as_it_is() -> None:
    program = find_program(script=script("run.sh", "#!/bin/sh\n", mode=0o755))
    assert program.command_for({"x": 1}, "/job") == ("./run.sh", "x=1")


def test_a_path_to_a_script_stays_as_it_was_typed(project_dir: Path) -> None:
    assert find_program(script=script("src/train.py")).script == (
        *(sys.executable, "-u", "src/train.py"),
    )
    assert find_program(script=project_dir / "src" / "train.py").script == (
        *(sys.executable, "-u", str(project_dir / "src" / "train.py")),
    )


def test_a_script_with_the_name_of_an_option_is_run() -> None:
    words = find_program(script=script("-c.py", "print('ran')")).command_for({}, "/job")
    assert words is not None
    assert subprocess.check_output(words, text=True) == "ran\n"


def test_a_hydra_script_gets_its_directory(tmp_path: Path) -> None:
    text = """
        import json, sys
        import hydra
        from hydra.core.hydra_config import HydraConfig

        @hydra.main(version_base=None, config_path=None)
        def main(cfg):
            print(json.dumps([HydraConfig.get().runtime.output_dir, cfg.x, cfg.name]))

        main()
    """
    program = find_program(script=script("train.py", text))
    job_dir = tmp_path / "a sweep, of=mine" / "0"
    words = program.command_for({"+x": 1e-5, "+name": "it's {1}"}, job_dir)
    assert words is not None
    assert json.loads(subprocess.check_output(words)) == [str(job_dir), 1e-5, "it's {1}"]
    assert (job_dir / ".hydra" / "config.yaml").exists()


def test_a_directory_that_is_swept_over_is_left_alone() -> None:
    program = find_program(script=script("a.py", "import hydra\nhydra.main()(print)()"))
    words = program.command_for({"hydra.run.dir": "/elsewhere"}, "/job")
    assert words is not None
    assert words[-1] == "hydra.run.dir=/elsewhere"


def test_arguments_name_the_same_program_again() -> None:
    for program in (
        find_program(function=train),
        find_program(command="echo '{a b}'"),
        find_program(script=script("train.py", "from hydra import main\nmain()")),
        find_program(script=script("run", mode=0o755)),
    ):
        assert find_program(**program.arguments()) == program


@pytest.mark.parametrize(
    ("function", "name"),
    [(train, "train"), (lambda params: None, "lambda"), (functools.partial(train), "partial")],
)
def test_the_name_of_a_function(function: Any, name: str) -> None:
    assert find_program(function=function).name == name


def test_the_name_of_a_command_and_of_a_script() -> None:
    assert find_program(command=["/bin/echo", "x"]).name == "echo"
    assert find_program(script=script("src/train.py")).name == "train"
    assert find_program(command="python src/train.py {args}").name == "train"


# --- hsm.yaml
# -------------------------------------------------------------------------------------------------


def test_hsm_yaml_says_what_jobs_run() -> None:
    script("train.py")
    Path("hsm.yaml").write_text("script: train.py\n")
    assert find_program().script == (sys.executable, "-u", "./train.py")
    Path("hsm.yaml").write_text("command: echo {lr} 'a b'\n")
    assert find_program().command == ("echo", "{lr}", "a b")
    assert find_program(function=train).command is None


def test_an_hsm_yaml_that_was_read_already_is_not_searched_for() -> None:
    Path("hsm.yaml").write_text("command: echo")
    assert find_program(hsm_config=HsmConfig(command=("true",))).command == ("true",)


# --- refusals
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            "nothing to run: pass script=, command= or function= to submit_jobs, or set `script:` "
            "in hsm.yaml",
        ),
        (
            {"function": train, "script": "train.py"},
            "submit_jobs: give only one of function, script",
        ),
        ({"function": "train"}, "function must be a callable, not 'train'"),
        ({"command": []}, "command must be a command line, or a list of its words, not []"),
        ({"command": ""}, "or a list of its words, not ''"),
        ({"command": ["echo", 3]}, "or a list of its words, not ['echo', 3]"),
        ({"command": 3}, "or a list of its words, not 3"),
        ({"command": b"echo"}, "or a list of its words, not b'echo'"),
        ({"command": "echo 'a"}, "No closing quotation"),
        (
            {"command": ["no-such-program", "x"]},
            "there is no program 'no-such-program' that can be executed",
        ),
        (
            {"script": "trian.py"},
            "submit_jobs: there is no file 'trian.py'; did you mean train.py?",
        ),
        (
            {"script": "src/train.py"},
            "there is no file 'src/train.py'; there is no directory src",
        ),
        ({"script": "."}, "there is no file '.'"),
        ({"script": 3}, "script must be the path of a script, not 3"),
        ({"script": "a\0b"}, "script must be the path of a script, not 'a"),
        (
            {"script": "notes.txt"},
            "'./notes.txt' is neither a .py file nor executable; chmod +x ./notes.txt makes it "
            "executable",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    script("train.py")
    script("notes.txt")
    with pytest.raises(SettingsError) as caught:
        find_program(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_script_in_hsm_yaml_is_refused_naming_the_file(project_dir: Path) -> None:
    script("train.py")
    (project_dir / "hsm.yaml").write_text("script: trian.py")
    with pytest.raises(SettingsError) as caught:
        find_program()
    assert str(caught.value) == (
        f"script in {project_dir / 'hsm.yaml'}: there is no file 'trian.py'; did you mean train.py?"
    )


# --- which scripts are Hydra apps
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "import hydra\n@hydra.main(config_path=None)\ndef f(cfg): pass",
        "import hydra as h\n@h.main()\ndef f(cfg): pass",
        "from hydra import main\n@main(version_base=None)\ndef f(cfg): pass",
        "from hydra import main as app\n@app()\ndef f(cfg): pass",
        "from hydra.main import main\n@main()\ndef f(cfg): pass",
        "import hydra.utils\n@hydra.main()\ndef f(cfg): pass",
        "import hydra\nhydra.main(config_path=None)(print)()",
        "try:\n    import hydra\nexcept ImportError:\n    raise\nif 1:\n    app = hydra.main",
        "# -*- coding: latin-1 -*-\nimport hydra\n'\xe4'\nhydra.main()(print)()",
    ],
)
def test_a_script_that_uses_hydra_main(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(text.encode("latin-1"))
    assert uses_hydra_main(path)


@pytest.mark.parametrize(
    "text",
    [
        "import hydra\nhydra.compose('config')",
        "# import hydra; @hydra.main()",
        "'''import hydra\n@hydra.main()\n'''",
        "import fire\n@fire.main()\ndef f(cfg): pass",
        "from typer import main\n@main()\ndef f(cfg): pass",
        "import hydra.utils as u\nu.main()",
        "from hydra import main",
        "import hydra\n@hydra.main(",
        "\0",
        "",
    ],
)
def test_a_script_that_does_not(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(text)
    assert not uses_hydra_main(path)
    assert not uses_hydra_main(tmp_path / "missing.py")


class _Async:
    async def __call__(self, params: dict[str, Any]) -> None: ...

    async def method(self, params: dict[str, Any]) -> None: ...


async def _async(params: dict[str, Any]) -> None: ...


async def _async_generator(params: dict[str, Any]) -> AsyncIterator[int]:
    yield 1


def _generator(params: dict[str, Any]) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        *(
            (f, "it is async; wrap it")
            for f in (_async, _async_generator, _Async(), _Async().method)
        ),
        (functools.partial(_async), "it is async; wrap it"),
        (_generator, "it has a yield"),
    ],
)
def test_a_function_of_which_a_call_runs_nothing_is_refused(
    function: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        find_program(function)
    assert "would not run it: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "function", [print, len, dict, train, functools.partial(train), lambda params: 1]
)
def test_all_else_that_can_be_called_may_be_a_job(function: Callable[[Any], Any]) -> None:
    assert find_program(function).function is function

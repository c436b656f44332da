from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.settings import BAD_VALUES, refusal, refusal_of, write
from hsm.core.printable import printable
from hsm.core.settings.resolve import (
    BUILT_IN,
    HsmConfig,
    LocalConf,
    Resolved,
    StartMethod,
    load_hsm_config,
    resolve_local,
)


def test_a_whole_file(project_dir: Path) -> None:
    path = write(
        "hsm.yaml",
        """\
        # of the project
        local:
          max_parallel_jobs: 8
          timeout: 1e3
          show_output: on
          start_method: fork
          kill_grace: 1m
        command: python train.py --name 'a b'
        output_dir: outputs
        """.replace(" " * 8, ""),
    )
    resolved = resolve_local()
    assert resolved.conf == LocalConf(
        max_parallel_jobs=8,
        timeout=1000.0,
        show_output=True,
        start_method=StartMethod.fork,
        kill_grace=60.0,
    )
    assert resolved.origins["kill_grace"] == f"local.kill_grace in {path}, line 7"
    assert resolved.origins["fail_fast"] == BUILT_IN
    config = resolved.hsm_config
    assert config.path == path
    assert config.command == ("python", "train.py", "--name", "a b")
    assert (config.script, config.output_dir) == (None, "outputs")
    assert resolve_local(hsm_config=config, environ={}).conf == resolved.conf


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("command: true.sh", ("true.sh",)),
        ("command: [python, 'a b.py']", ("python", "a b.py")),
        ("command:\n- x\n- ''", ("x", "")),
    ],
)
def test_commands(text: str, command: tuple[str, ...]) -> None:
    write("hsm.yaml", text)
    assert load_hsm_config().command == command


@pytest.mark.parametrize(
    "text",
    [
        *["", "\n\n", "\ufeff", "# nothing\n", "---\n", "null", "{}", "local: {}"],
        "local:\nscript:\ncommand:\noutput_dir:\n",
    ],
)
def test_files_that_say_nothing(text: str) -> None:
    path = write("hsm.yaml", text)
    assert load_hsm_config() == HsmConfig(path=path)
    assert resolve_local().conf == LocalConf()


def test_anchors_and_merged_mappings() -> None:
    write("hsm.yaml", "local:\n  <<: {timeout: 2h, kill_grace: 1}\n  kill_grace: 3\n")
    conf = resolve_local().conf
    assert (conf.timeout, conf.kill_grace) == (7200.0, 3.0)


@pytest.mark.parametrize(("name", "value", "allowed"), BAD_VALUES)
def test_bad_values_in_a_file(name: str, value: Any, allowed: str) -> None:
    spelled = json.dumps(value).replace("NaN", ".nan").replace("Infinity", ".inf")
    error = refusal_of(f"script: train.py\nlocal:\n  {name}: {spelled}\n")
    path = Path("hsm.yaml").absolute()
    assert error.origin == f"local.{name} in {path}, line 3"
    assert (error.key, error.allowed) == (name, allowed)


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("lokal: {}", "lokal in {}, line 1", "unknown setting lokal in /"),
        ("lokal: {}", "lokal in {}, line 1", ", line 1; did you mean local?"),
        ("\noutputdir: x", "outputdir in {}, line 2", "did you mean output_dir?"),
        ("timeout: 2h", "timeout in {}, line 1", "; write local: {timeout: ...}"),
        ("1: 2", "1 in {}, line 1", "unknown setting 1 in "),
        ("on: 2", "True in {}, line 1", "unknown setting True in "),
        ("? [a, b]\n: 2", "{}, line 1", ""),
        ("local:\n  timout: 2h", "local.timout in {}, line 2", "did you mean timeout?"),
        ("local:\n  null: 2h", "local.None in {}, line 2", "unknown setting local.None in "),
        ("local: [1]", "local in {}, line 1", ", line 1 must be a mapping of settings, not "),
        ("local: yes", "local in {}, line 1", ", line 1 must be a mapping of settings, not "),
        ("- local", "{}", "hsm.yaml must hold a mapping"),
        ("text", "{}", "hsm.yaml must hold a mapping"),
        ("script: 3", "script in {}, line 1", ", line 1 must be a path, not "),
        ("script: ''", "script in {}, line 1", ", line 1 must be a path, not "),
        ("output_dir: [x]", "output_dir in {}, line 1", ", line 1 must be a path, not ['x']"),
        ("command: ''", "command in {}, line 1", ", line 1 must be a command line"),
        ("command: []", "command in {}, line 1", ", line 1 must be a command line"),
        ("command: [sleep, 1]", "command in {}, line 1", "or a list of its words"),
        ("command: {a: 1}", "command in {}, line 1", ", line 1 must be a command line"),
        ("command: echo 'a", "command in {}, line 1", "No closing quotation"),
        (
            "script: a\ncommand: b",
            "command in {}, line 2",
            "stands beside script: jobs run one of them",
        ),
        ("local:\n\ttimeout: 2", "{}, line 2", "'\\t' that cannot start any token"),
        ("local: {", "{}, line 1", "valid YAML"),
        ("local:\n  timeout: 2\n kill_grace: 1", "{}, line 3", "valid YAML"),
        ("a: b: c", "{}, line 1", "mapping values are not allowed here"),
        ("local:\n  timeout: 2\n  timeout: 3", "{}, line 3", "'timeout' appears twice"),
        ("local: {timeout: 2, timeout: 3}", "{}, line 1", "'timeout' appears twice"),
        ("script: a\nlocal:\nscript: b", "{}, line 3", "'script' appears twice"),
        ("local: {}\n---\nlocal: {}", "{}, line 2", "valid YAML"),
        ("local: *x", "{}, line 1", "undefined alias"),
        ("script: a\x07b", "{}, line 1", "a character that YAML does not allow"),
        ("local: {timeout: !!bool maybe}", "{}, line 1", "valid YAML"),
        ("local: {timeout: !!int ''}", "{}, line 1", "valid YAML"),
        ("local: {timeout: !!timestamp x}", "{}, line 1", "valid YAML"),
        ("local: {timeout: !!binary ä}", "{}, line 1", "valid YAML"),
        ("local: {timeout: 2024-99-99}", "local.timeout in {}, line 1", "line 1 must be a number"),
        ("local: {max_parallel_jobs: " + "9" * 6000 + "}", "{}, line 1", "valid YAML"),
        ("[" * 2000, "{}, line 1", "nested too deeply"),
        ("local: &a [*a]", "{}", ""),
    ],
)
def test_bad_files(text: str, place: str, expected: str) -> None:
    error = refusal_of(text)
    assert place.format(Path("hsm.yaml").absolute()) in error.origin
    assert expected in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir ['made']",
        "script: !!python/object/apply:os.mkdir ['made']",
        "local: !!python/object:hsm.core.settings.resolve.LocalConf {}",
        "script: !!python/name:os.system",
    ],
)
def test_a_file_never_makes_python_do_anything(text: str) -> None:
    assert "valid YAML" in str(refusal_of(text))
    assert not Path("made").exists()


def test_many_aliases_do_no_harm() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert len(str(refusal_of("\n".join(lines)))) < 300


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"script: a\noutput_dir: \xff\n", "line 2"), ("script: ä".encode("latin-1"), "line 1")],
)
def test_other_encodings_are_refused(data: bytes, expected: str) -> None:
    Path("hsm.yaml").write_bytes(data)
    error = refusal()
    assert error.origin.endswith(expected)
    assert error.allowed == "text in UTF-8"


def test_the_first_file_that_exists_holds(tmp_path: Path) -> None:
    places = {
        name: write(path, f"local: {{max_parallel_jobs: {number}}}")
        for number, (name, path) in enumerate(
            {
                "argument": tmp_path / "given.yaml",
                "variable": tmp_path / "named.yaml",
                "here": Path("hsm.yaml"),
                "conf": Path("conf/hsm.yaml"),
                "user": tmp_path / "xdg/hsm/hsm.yaml",
                "home": tmp_path / "home/.config/hsm/hsm.yaml",
            }.items(),
            start=1,
        )
    }
    environ = {"HSM_CONFIG": str(places["variable"]), "HOME": str(tmp_path / "home")}
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")

    def found(path: Path | None = None) -> tuple[int, Path | None]:
        resolved = resolve_local(hsm_config=path, environ=environ)
        return resolved.conf.max_parallel_jobs, resolved.hsm_config.path

    assert found(places["argument"]) == (1, places["argument"])
    assert found() == (2, places["variable"])
    del environ["HSM_CONFIG"]
    assert found() == (3, places["here"])
    places["here"].unlink()
    assert found() == (4, places["conf"])
    places["conf"].unlink()
    assert found() == (5, places["user"])
    environ["XDG_CONFIG_HOME"] = "relative/is/ignored"
    assert found() == (6, places["home"])
    environ["XDG_CONFIG_HOME"] = ""
    assert found() == (6, places["home"])
    places["home"].unlink()
    assert found() == (4, None)  # the built-in value


def test_the_home_directory_of_the_user_without_HOME(  # noqa: N802 -- it is HOME
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert isinstance(resolve_local(environ={}), Resolved)


def test_a_tilde_is_the_home_directory(tmp_path: Path) -> None:
    path = write(tmp_path / "home" / "mine.yaml", "script: a.py")
    assert load_hsm_config("~/mine.yaml").path == path
    assert load_hsm_config(environ={"HSM_CONFIG": "~/mine.yaml"}).script == "a.py"


def test_a_directory_called_hsm_yaml_is_no_settings_file() -> None:
    Path("hsm.yaml").mkdir()
    write("conf/hsm.yaml", "script: a.py")
    assert load_hsm_config().script == "a.py"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.yaml", "No such file or directory"),
        ("missing/hsm.yaml", "No such file or directory"),
        ("", "Is a directory"),
        (".", "Is a directory"),
        ("a\0b", "null byte"),
        ("a\nb\udcff.yaml", "No such file or directory"),
        (3, "int"),  # Python 3.13 puts it in quotes
        (b"x", ""),
        ("~nobody-has-this-name/x", ""),
    ],
)
def test_a_named_file_must_be_readable(path: Any, reason: str) -> None:
    error = refusal(hsm_config=path)
    assert (error.origin, error.value) == ("argument hsm_config", path)
    assert str(error).startswith("argument hsm_config: cannot read ")
    assert str(error).endswith(f": {printable(error.hint)}")
    assert reason in error.hint


def test_the_file_that_the_variable_names_must_be_readable() -> None:
    error = refusal(environ={"HSM_CONFIG": "missing.yaml"})
    reason = "cannot read 'missing.yaml': No such file or directory"
    assert str(error) == f"environment variable HSM_CONFIG: {reason}"


def test_a_flags_name_stands_in_the_error() -> None:
    error = refusal(hsm_config="missing.yaml", argument_origin=lambda _: "--hsm-config")
    assert str(error) == "--hsm-config: cannot read 'missing.yaml': No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_is_found_but_cannot_be_read_is_no_secret() -> None:
    write("hsm.yaml", "script: a").chmod(0)
    assert "Permission denied" in str(refusal())


def test_an_endless_file_is_refused() -> None:
    assert "at most 1048576 bytes" in str(refusal(hsm_config="/dev/zero"))
    assert resolve_local(hsm_config=os.devnull).conf == LocalConf()


def test_a_working_directory_that_is_gone(project_dir: Path) -> None:
    project_dir.rmdir()
    assert resolve_local().conf == LocalConf()
    assert "No such file" in str(refusal(hsm_config="hsm.yaml"))

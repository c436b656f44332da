"""`hsm config`: every setting, its value, and where that came from."""

from __future__ import annotations

from typing import Any

from hsm.cli._given import option_name
from hsm.cli._option_sets import HsmConfigFile, Json, new_app
from hsm.cli._printing import end_with_the_reader, print_json, print_table
from hsm.cli._stdout import say
from hsm.core.command_line import join_command
from hsm.core.record.sweep_id import OUTPUT_DIR
from hsm.core.settings.args_style import ArgsStyle
from hsm.core.settings.resolve import SETTINGS, HsmConfig, Resolved, resolve_local

app = new_app()


@app.command("config")
def config(hsm_config: HsmConfigFile = "", as_json: Json = False) -> None:
    """Print every setting, its value, and where that came from.

    Highest first: an option of `hsm sweep`, hsm.yaml, the environment, the built-in default.
    """
    end_with_the_reader()
    resolved = resolve_local(argument_origin=option_name, hsm_config=hsm_config or None)
    if as_json:
        print_json(_document(resolved))
        return
    values = vars(resolved.conf)
    rows = [
        [f"local.{name}", setting.show(values[name]), _place(resolved, name), setting.variable]
        for name, setting in SETTINGS.items()
    ]
    file = resolved.hsm_config
    rows += [[key, text, _origin(file, key), ""] for key, text in _sections(file).items()]
    print_table(
        ["setting", "value", "from", "variable"],
        rows,
        wraps=("value", "from"),
        droppable=("variable",),
        hint="hsm config | cat shows all",
    )
    say(f"hsm.yaml: {file.path or 'there is none; hsm init writes one'}")


def _place(resolved: Resolved, name: str) -> str:
    """Where a setting came from; its name, which stands beside it, left out."""
    return resolved.origins[name].removeprefix(f"local.{name} in ")


def _sections(file: HsmConfig) -> dict[str, str]:
    return {
        "script": file.script or "none",
        "command": join_command(file.command) if file.command else "none",
        "args_style": file.args_style or ArgsStyle.auto,
        "output_dir": file.output_dir or OUTPUT_DIR,
    }


def _origin(file: HsmConfig, key: str) -> str:
    return "built-in default" if getattr(file, key) is None else str(file.path)


def _document(resolved: Resolved) -> dict[str, Any]:
    values = vars(resolved.conf)
    file = resolved.hsm_config
    return {
        "hsm_config": None if file.path is None else str(file.path),
        "local": {
            name: {
                "value": setting.kind.shareable(values[name]),
                "from": resolved.origins[name],
            }
            for name, setting in SETTINGS.items()
        },
        "script": file.script,
        "command": file.command,
        "args_style": file.args_style or ArgsStyle.auto,
        "output_dir": file.output_dir or OUTPUT_DIR,
    }

"""Whether a script refused its arguments, from what parsers really say at their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm.core.program.argument_writer import ArgumentWriter
from hsm.core.program.refused_arguments import Refusal, RefusalJudge
from hsm.core.settings.args_style import ArgsStyle
from hsm.core.space.flags import Signature

_USAGE = "usage: train.py [-h] [--lr LR]\ntrain.py: error: "
_CLICK = "Usage: train.py [OPTIONS]\nTry 'train.py --help' for help.\n\nError: "
_TYPER = """\
Usage: train.py [OPTIONS] COMMAND [ARGS]...
Try 'train.py --help' for help.
╭─ Error ─────────────────────────────────────────────────────────────────────╮
│ {}{}│
╰─────────────────────────────────────────────────────────────────────────────╯
"""
_FIRE = "ERROR: Could not consume arg: --x=1\nUsage: train.py -\n\nFor detailed information …\n"
_ABSL = "FATAL Flags parsing error: {}\nPass --helpshort or --helpfull to see help on flags.\n"
_HYDRA = "usage: hy.py [--help] [--hydra-help] [--version]\nhy.py: error: "
_FLAGS, _EQUALS = "try --args-style flags", "try --args-style flags-equals"
_COMMAND = "if it has commands, name one: -- python SCRIPT COMMAND {args}"
_MISSING = "give what is missing as one more parameter: name=value"
_NONE = "parameters must be arguments that it takes (--args-style none sends it none)"


def judged(text: str, code: int, style: str, signature: Signature | None = None) -> Refusal | None:
    """What is made of a job's end."""
    log = Path("sweep/.hsm/logs/0.err")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    writer = ArgumentWriter(style=ArgsStyle(style), signature=signature or Signature())
    return RefusalJudge(writer).refusal(code, log, ["python", "train.py", "lr=0.1"])


@pytest.mark.parametrize(
    ("style", "code", "text", "said", "advice"),
    [
        ("hydra", 2, f"{_USAGE}unrecognized arguments: lr=0.1", "train.py: error: unrec", _FLAGS),
        ("flags", 2, f"{_USAGE}unrecognized arguments: --x 1", "train.py: error: unrec", _NONE),
        ("hydra", 2, f"{_USAGE}the following arguments are required: --lr", "train.py:", _FLAGS),
        ("flags", 2, f"{_USAGE}the following arguments are required: command", "", _COMMAND),
        ("flags", 2, f"{_USAGE}argument --x: ignored explicit argument 'True'", "", _NONE),
        ("flags", 2, f"{_USAGE}argument --x: expected one argument", "", _NONE),
        ("flags", 2, f"{_USAGE}argument command: invalid choice: '1' (choose …)", "", _COMMAND),
        ("hydra", 2, f"{_USAGE}argument lr: invalid float value: 'lr=0.1'", "", _FLAGS),
        ("hydra", 2, f"{_CLICK}Got unexpected extra argument (lr=0.1)", "Error: Got", _FLAGS),
        ("flags", 2, f"{_CLICK}No such option '--x'.", "Error: No such option", _NONE),
        ("flags", 2, f"{_CLICK}Missing option '--lr'.", "Error: Missing option", _MISSING),
        ("flags", 2, f"{_USAGE}the following arguments are required: --lr", "", _MISSING),
        ("flags", 2, _TYPER.format("No such command '1'.", " " * 57), "No such command", _COMMAND),
        ("flags", 2, _TYPER.format("No such option: --lr", " " * 57), "No such option", _COMMAND),
        ("hydra", 2, _FIRE, "ERROR: Could not consume arg: --x=1", _EQUALS),
        ("flags-equals", 2, _FIRE, "ERROR: Could not consume arg: --x=1", _NONE),
        ("flags", 1, _ABSL.format("Unknown command line flag 'x'"), "FATAL Flags", _EQUALS),
        (
            *(
                "flags",
                1,
                _ABSL.format("\n  flag --lr=None: Flag --lr must have a value other than None."),
            ),
            *("flag --lr=None: Flag", _EQUALS),
        ),
        ("flags", 2, f"{_HYDRA}unrecognized arguments: --lr", "", "try --args-style hydra"),
    ],
)
def test_a_parsers_own_words_tell_that_no_job_will_do(
    style: str, code: int, text: str, said: str, advice: str
) -> None:
    refusal = judged(text, code, style)
    assert refusal is not None
    assert refusal.line.startswith(said)
    assert refusal.line in text
    assert "(sent: python train.py lr=0.1); " in refusal.message
    assert refusal.message.endswith(advice)
    # Whatever it printed before, and in an attempt before.
    assert judged(f"warning\n{text}", code, style) == refusal
    assert judged(f"{text}\n---- attempt 2, 2026-01-31 ----\nno room\n", code, style) is None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (2, ""),
        (2, "grep: no-such-file: No such file or directory"),
        (2, f"{_USAGE}argument --lr: invalid float value: 'soon'"),
        (2, f"{_USAGE}argument --model: invalid choice: 'x' (choose from 'a', 'b')"),
        (2, f"{_CLICK}Invalid value for '--lr': 'soon' is not a valid float."),
        (1, _ABSL.format("flag --lr=soon: could not convert string to float: 'soon'")),
        (1, "Traceback (most recent call last):\nValueError: x must have a value other than None"),
        (1, f"{_USAGE}unrecognized arguments: lr=0.1"),
        (3, f"{_USAGE}unrecognized arguments: lr=0.1"),
        (
            2,
            f"{_USAGE}unrecognized arguments: --x\nTraceback (most recent call last):\n"
            "subprocess.CalledProcessError: Command 'other --x' returned non-zero exit status 2.",
        ),
        (2, f"{_USAGE}unrecognized arguments: --x\n" + "training\n" * 20),
    ],
)
def test_a_failure_of_another_kind_is_one_jobs_own(code: int, text: str) -> None:
    assert judged(text, code, "flags") is None


def test_the_choice_of_a_positional_parameter_is_a_value() -> None:
    text = f"{_USAGE}argument model: invalid choice: 'x' (choose from 'a', 'b')"
    assert judged(text, 2, "flags", Signature(positionals=("model",))) is None
    assert judged(text, 2, "hydra", Signature(positionals=("model",))) is not None


def test_a_log_that_is_gone_tells_nothing() -> None:
    judge = RefusalJudge(ArgumentWriter())
    assert judge.refusal(2, Path("s/.hsm/logs/0.err"), ["train.py"]) is None

"""What the tests of settings share."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hsm.core.config import resolve_local
from hsm.core.errors import SettingsError

nan, inf = float("nan"), float("inf")


def write(path: str | Path, text: str) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path.absolute()


def refusal(arguments: Mapping[str, Any] | None = None, **options: Any) -> SettingsError:
    """The error of `resolve_local`, which is one line of text that survives a pickle."""
    with pytest.raises(SettingsError) as caught:
        resolve_local(arguments, **options)
    text = str(caught.value)
    assert text.isprintable()
    assert str(pickle.loads(pickle.dumps(caught.value))) == text
    return caught.value


def refusal_of(text: str) -> SettingsError:
    """The error for an hsm.yaml with this text."""
    write("hsm.yaml", text)
    return refusal()


_INTEGER = "an integer of at least 1"
_TIMEOUT = "a number of seconds above 0 and at most 1e9 (or 90s, 30m, 2h, 1d), or none"
_GRACE = "a number of seconds of at least 0 and at most 1e9 (or 90s, 30m, 2h, 1d)"
_SIZE = "a number of bytes above 0, or text such as 512MB, 4GB, 1.5GiB, or none"
_NO_SWITCHES = [None, 0, 1, "true", "yes", "", [True]]
#: Setting, a value that YAML can say and that is not allowed, what is allowed.
BAD_VALUES: list[tuple[str, Any, str]] = [
    *[
        ("max_parallel_jobs", value, _INTEGER)
        for value in [0, -1, True, False, None, 4.0, nan, inf, "4", "", "many", [4], {}]
    ],
    *[
        ("timeout", value, _TIMEOUT)
        for value in [0, 0.0, -1, nan, inf, -inf, True, "", "soon", "0s", "-2h", 2e9, 10**400, [1]]
    ],
    *[("kill_grace", value, _GRACE) for value in [-0.001, None, "none", nan, inf, False, "5x"]],
    *[("show_output", value, "true or false") for value in _NO_SWITCHES],
    *[("cleanup_on_exit", value, "true or false") for value in _NO_SWITCHES],
    *[("fail_fast", value, "true or false") for value in _NO_SWITCHES],
    *[
        ("start_method", value, "one of auto, fork, spawn")
        for value in ["thread", "FORK", "", None, True, 1, ["fork"]]
    ],
    *[("max_retries", value, "an integer of at least 0") for value in [-1, None, True, "1", 1.0]],
    *[
        ("max_failures", value, "an integer of at least 1, or none")
        for value in [0, False, "1", "none", 2.0]
    ],
    *[
        ("retry_on", value, "any of failed, timeout, out_of_memory, crashed")
        for value in [None, "never", ["failed", "never"], ["failed", 3], 3, True, {"failed": 1}]
    ],
    *[
        ("timeout_factor", value, "a number above 1, or none")
        for value in [1, 0, -2, nan, inf, True, "2", [2], 10**400]
    ],
    *[
        ("memory_limit", value, _SIZE)
        for value in [0, -1, nan, inf, True, "", "much", "-4GB", "4PB", "GB", [4]]
    ],
    *[
        ("on_sweep_end", value, "a command, as a text or as a list of words, or none")
        for value in ["", " ", "a 'b", [], [1], ["a", None], {"a": "b"}, 3, True]
    ],
    *[
        ("progress", value, "one of auto, rich, plain, none")
        for value in ["loud", None, False, "", {"rich": 1}]
    ],
]

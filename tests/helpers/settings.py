"""What the tests of settings share."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hsm.core.errors import SettingsError
from hsm.core.settings.resolve import resolve_local

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


_JOBS = "an integer of at least 1, or auto"
_CPUS = "an integer of at least 1, auto, or none"
_TIMEOUT = "a number of seconds above 0 and at most 1e9 (or 90s, 30m, 2h, 1d), or none"
_GRACE = "a number of seconds of at least 0 and at most 1e9 (or 90s, 30m, 2h, 1d)"
_SIZE = "a number of bytes above 0, or text such as 512MB, 4GB, 1.5GiB, or none"
_GPUS = "a number of GPUs, or a share of one from 0.01 to below 1, or none"
_GPU_IDS = (
    "GPUs as nvidia-smi numbers or names them (GPU-…, MIG-…), in a list or in text such as 0,3; or "
    "none"
)
_METHODS = "one of auto, fork, spawn"
_MODES = "one of auto, rich, plain, none"
_FAILURES = "any of failed, timeout, out_of_memory, crashed"
_COMMAND = "a command, as a text or as a list of words, or none"
_NO_SWITCHES = [None, 0, 1, "true", "yes", "", [True]]


def _bad(name: str, allowed: str, *values: Any) -> list[tuple[str, Any, str]]:
    return [(name, value, allowed) for value in values]


#: Setting, a value that YAML can say and that is not allowed, what is allowed.
BAD_VALUES: list[tuple[str, Any, str]] = [
    *_bad("max_parallel_jobs", _JOBS, 0, -1, True, False, None, 4.0, nan, inf),
    *_bad("max_parallel_jobs", _JOBS, "4", "", "many", "none", [4], {}),
    *_bad("cpus", _CPUS, 0, -1, True, False, 2.0, nan, inf, "2", "", "all", ["auto"], {}),
    *_bad("cpu_affinity", "one of share, none", "shared", "", True, 1, ["share"]),
    *_bad("gpus", _GPUS, -1, -0.5, 0.001, 1.5, 2.25, 1025, nan, inf, True, 10**400),
    *_bad("gpus", _GPUS, "", "all", "auto", "1.5", "-1", "nan", "1e3", "1_0", "٣", [1], {}),
    *_bad("gpu_ids", _GPU_IDS, -1, 1024, 0.5, True, nan, {}, [True], [None], [0.0], [[0]]),
    *_bad("gpu_ids", _GPU_IDS, [], "", ",", "0,", "0,0", [1, "1"], "gpu0", "GPU-", "GPU-é", "0 1"),
    *_bad("gpu_memory", _SIZE, 0, "much", True, nan, [4]),
    *_bad("gpu_busy", "one of wait, ignore", "waits", None, True, 1),
    *_bad("gpu_wait", _TIMEOUT, 0, -1, "soon", nan),
    *_bad("gpu_settle", _GRACE, -1, None, "soon"),
    *_bad("timeout", _TIMEOUT, 0, 0.0, -1, nan, inf, -inf, True, 2e9, 10**400, [1]),
    *_bad("timeout", _TIMEOUT, "", "soon", "0s", "-2h"),
    *_bad("kill_grace", _GRACE, -0.001, None, "none", nan, inf, False, "5x"),
    *_bad("show_output", "true or false", *_NO_SWITCHES),
    *_bad("cleanup_on_exit", "true or false", *_NO_SWITCHES),
    *_bad("fail_fast", "true or false", *_NO_SWITCHES),
    *_bad("start_method", _METHODS, "thread", "FORK", "", None, True, 1, ["fork"]),
    *_bad("progress", _MODES, "loud", None, False, "", {"rich": 1}),
    *_bad("max_retries", "an integer of at least 0", -1, None, True, "1", 1.0),
    *_bad("max_failures", "an integer of at least 1, or none", 0, False, "1", "none", 2.0),
    *_bad("retry_on", _FAILURES, None, "never", ["failed", "never"], ["failed", 3], 3, True),
    *_bad("retry_on", _FAILURES, {"failed": 1}),
    *_bad("timeout_factor", "a number above 1, or none", 1, 0, -2, nan, inf, True, "2", [2]),
    *_bad("timeout_factor", "a number above 1, or none", 10**400),
    *_bad("memory_limit", _SIZE, 0, -1, nan, inf, True, "", "much", "-4GB", "4PB", "GB", [4]),
    *_bad("metric", "a name, or none", "", " ", "a\nb", 3, True, ["loss"], {"loss": 1}),
    *_bad("direction", "one of minimize, maximize, none", "min", "", True, 1, ["minimize"]),
    *_bad("on_sweep_end", _COMMAND, "", " ", "a 'b", [], [1], ["a", None], {"a": "b"}, 3, True),
]

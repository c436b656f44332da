"""e. JAX that the app has used at import: jobs are spawned."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from helpers.looks import start_methods
from helpers.processes import App
from hsm.core.local.fork_safety.native_pools import find_pools

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, auto is spawn"),
]


def _is_found() -> bool:
    return any("JAX has been used" in finding.text for finding in find_pools(set(), 0))


def test_jax_that_was_imported_and_not_used_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = ModuleType("jax._src.xla_bridge")
    bridge._backends = {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, bridge.__name__, bridge)
    assert not _is_found()
    bridge._backends["cpu"] = object()
    assert _is_found()


def test_a_module_of_that_name_may_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", None)
    assert not _is_found()
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", ModuleType("another"))
    assert not _is_found()


@pytest.mark.heavy
@pytest.mark.parametrize("is_used", [True, False])
def test_jax_is_used_in_jobs(tmp_path: Path, is_used: bool) -> None:
    pytest.importorskip("jax")
    app = App(
        tmp_path,
        f"""
        import jax
        import jax.numpy

        use = lambda n: float(jax.numpy.dot(jax.numpy.ones(9), jax.numpy.ones(9) * n))
        {is_used} and use(1)

        def job(cfg):
            return use(cfg.job)
        """,
    )
    done = app.run("job=range(2)", seconds=240)
    assert done.values == [0.0, 9.0], done.screen
    assert start_methods(done) == ["spawn" if is_used else "fork"]

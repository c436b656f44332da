from __future__ import annotations

import pytest

from contract_support import Place


@pytest.fixture(params=["local", "plain"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each place where jobs run."""
    return Place(request.param)

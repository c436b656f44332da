from __future__ import annotations

import pytest

from contract_support import Place
from helpers.processes import first_fast


@pytest.fixture(params=first_fast("local", "plain"))
def place(request: pytest.FixtureRequest) -> Place:
    """Each place where jobs run."""
    return Place(request.param)

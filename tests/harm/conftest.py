"""These tests run sweeps as those of reliability do, with what those share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "reliability"))

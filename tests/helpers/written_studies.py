"""Studies written by hand, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.written_sweeps import Sweeps


def add_facts(journal: Path, facts: dict[str, Any]) -> None:
    """Give a journal what a launcher would have recorded of itself."""
    first, *lines = journal.read_text().splitlines()
    journal.write_text("\n".join([json.dumps({**json.loads(first), **facts}), *lines, ""]))


class Study(Sweeps):
    """A study of lr; its journal is whole after `finish`."""

    def __init__(self, directory: Path, planned: int | None = None, **chosen: Any) -> None:
        super().__init__(directory)
        self._facts = {
            "chosen": {"method": "optuna", "space": {"lr": "0.001..0.1"}, **chosen},
            "planned": planned,
        }

    def finish(self, reason: str = "finished") -> Path:
        """Close the journal, with what its launcher recorded; returns the sweep's directory."""
        self.journal.close(reason)
        known = {name: fact for name, fact in self._facts.items() if fact is not None}
        add_facts(self.paths.journal, known)
        return self.paths.sweep_dir

    def report(self, num: int, **values: Any) -> None:
        """Have a job report something."""
        self.paths.metrics.mkdir(exist_ok=True)
        with open(self.paths.metrics_text(num), "a") as file:
            file.write(json.dumps(values) + "\n")

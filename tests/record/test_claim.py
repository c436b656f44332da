"""Which directories a sweep may take, and which ones it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm.core.errors import SettingsError
from hsm.core.record.claim import claim_beside, claim_new
from hsm.core.record.journal import Journal, SweepInUse
from hsm.core.record.journal_header import JournalError
from hsm.core.record.paths import SweepPaths


def test_a_new_directory_is_claimed_once(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "a" / "b")
    lock = claim_new(paths)
    with pytest.raises(SweepInUse, match="in use by this process"):
        claim_new(paths)
    lock.release()
    claim_new(paths).release()


def test_a_directory_with_an_earlier_sweep_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "one")
    Journal(paths, "one", {}).close("finished")
    before = paths.journal.read_bytes()
    for _ in range(2):  # The refusal leaves no lock behind.
        with pytest.raises(
            SettingsError, match="one holds an earlier sweep: choose another sweep_dir"
        ):
            claim_new(paths)
    assert paths.journal.read_bytes() == before


@pytest.mark.parametrize("place", ["/proc/sweep", "/dev/null/sweep"])
def test_a_directory_that_cannot_be_made_is_refused(place: str) -> None:
    with pytest.raises(SettingsError, match=f"cannot write {place}.*: "):
        claim_new(SweepPaths(place))


def test_a_sweep_goes_beside_those_that_run(tmp_path: Path) -> None:
    place = str(tmp_path / "sweep")
    (tmp_path / "sweep-2").mkdir()  # Somebody's, who does not sweep.
    claimed = [claim_beside(place) for _ in range(3)]
    assert [directory for directory, _ in claimed] == [place, f"{place}-3", f"{place}-4"]
    for _, lock in claimed:
        lock.release()
    directory, lock = claim_beside(place)
    lock.release()
    assert directory == place


def test_a_sweep_goes_nowhere_if_it_cannot_write() -> None:
    with pytest.raises(JournalError, match="cannot write /proc/sweep: "):
        claim_beside("/proc/sweep")

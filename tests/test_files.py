from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from hsm.core.files import NotRegular, open_below, read_below, replace_below, seek_last_lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("a stranger's")
    return tmp_path / "root"


def test_a_regular_file_is_read_and_no_more_of_it_than_was_asked_for(root: Path) -> None:
    (root / "sub" / "file").write_bytes(b"0123456789")
    assert read_below(root, root / "sub" / "file") == b"0123456789"
    assert read_below(root, root / "sub" / "file", 4) == b"0123"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC])
def test_nothing_but_a_regular_file_is_opened_and_nothing_is_waited_for(
    root: Path, flags: int
) -> None:
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to(root.parent / "outside" / "file")
    (root / "device").symlink_to("/dev/zero")
    (root / "folder").mkdir()
    (root / "way").symlink_to(root.parent / "outside")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        for name in ("pipe", "link", "device", "folder", "socket", "way/file"):
            with pytest.raises(NotRegular):
                open_below(root, root / name, flags)
    assert (root.parent / "outside" / "file").read_text() == "a stranger's"


def test_the_root_may_be_reached_through_a_link(root: Path) -> None:
    (root / "sub" / "file").write_text("own")
    (root.parent / "link").symlink_to(root)
    here = root.parent / "link"
    assert read_below(here, here / "sub" / "file") == b"own"


def test_the_root_may_be_named_by_way_of_its_parent(root: Path) -> None:
    (root / "sub" / "file").write_text("own")
    here = root / "sub" / ".." / ".." / "root"
    assert read_below(here, here / "sub" / "file") == b"own"


def test_what_lies_outside_the_root_is_not_opened(root: Path) -> None:
    with pytest.raises(ValueError, match="outside"):
        open_below(root, root.parent / "outside" / "file")
    with pytest.raises(ValueError, match="outside"):
        open_below(root, root / ".." / "outside" / "file")


def test_a_file_is_replaced_whole_and_is_as_open_as_its_folder(root: Path) -> None:
    path = root / "sub" / "file"
    path.write_text("old")
    path.parent.chmod(0o700)
    replace_below(root, path, b"new", sync=True)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(root / "sub") == ["file"]


def test_a_link_in_a_files_place_is_replaced_and_not_written_through(root: Path) -> None:
    (root / "file").symlink_to(root.parent / "outside" / "file")
    replace_below(root, root / "file", b"new")
    assert (root / "file").read_text() == "new"
    assert not (root / "file").is_symlink()
    assert (root.parent / "outside" / "file").read_text() == "a stranger's"


def test_a_replacement_that_fails_leaves_what_was_there(root: Path) -> None:
    (root / "file").mkdir()  # no file can take its place
    with pytest.raises(OSError, match="file"):
        replace_below(root, root / "file", b"new")
    assert sorted(os.listdir(root)) == ["file", "sub"]


def test_descriptors_are_freed(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    os.mkfifo(root / "pipe")
    for name in ("pipe", "none", "sub"):
        with pytest.raises(OSError, match=r".+"):
            read_below(root, root / name)
    after = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    assert after == before


@pytest.mark.parametrize(
    ("lines", "expected"), [(0, ""), (1, "c"), (2, "b\nc"), (3, "a\nb\nc"), (9, "a\nb\nc")]
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines_of_a_file(lines: int, expected: str, end: str) -> None:
    file = io.BytesIO(f"a\nb\nc{end}".encode())
    seek_last_lines(file, lines)
    assert file.read().decode() == (expected + end if lines else "")

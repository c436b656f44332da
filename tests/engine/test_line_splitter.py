"""Bytes that come in chunks become lines, however they are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.core.engine.line_splitter import MAX_LINE, LineSplitter


def lines_of(*chunks: bytes, longest: int = MAX_LINE) -> list[str]:
    splitter = LineSplitter(longest)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + splitter.close()


class TestLineSplitter:
    def test_lines_come_when_their_newline_does(self) -> None:
        splitter = LineSplitter()
        assert splitter.feed(b"one\ntw") == ["one"]
        assert splitter.redraw() == "tw"
        assert splitter.feed(b"o\n\nthree") == ["two", ""]
        assert splitter.close() == ["three"]
        assert splitter.close() == []

    def test_a_character_may_be_cut_by_a_chunk(self) -> None:
        data = "naïve ☃ 🎈\n".encode()
        for cut in range(len(data)):
            assert lines_of(data[:cut], data[cut:]) == ["naïve ☃ 🎈"]

    def test_a_cut_character_does_not_show_in_a_redraw(self) -> None:
        splitter = LineSplitter()
        splitter.feed("50 % ☃".encode()[:-1])
        assert splitter.redraw() == "50 % "

    def test_bytes_that_are_no_utf_8(self) -> None:
        assert lines_of(b"a\xff\xc3(\n\x80\xe2\x98", b"\n") == ["a\ufffd\ufffd(", "\ufffd\ufffd"]

    def test_only_a_newline_ends_a_line(self) -> None:
        assert lines_of("a\vb\fc\x85d\u2028e\0f\n".encode()) == ["a\vb\fc\x85d\u2028e\0f"]

    def test_carriage_return_before_a_newline(self) -> None:
        assert lines_of(b"one\r\ntwo\r", b"\nthree\r\r\n\r\nfour\r") == [
            "one",
            "two",
            "three",
            "",
            "four",
        ]

    def test_only_the_last_redraw_is_a_line(self) -> None:
        assert lines_of(b"start\n\r 0%\r 50%", b"\r100%\ndone\n") == ["start", "100%", "done"]

    def test_a_bar_that_returns_at_its_end_is_not_lost(self) -> None:
        assert lines_of(b" 0%\r", b"50%\r", b"100%\r", b"\r\n") == ["100%"]

    def test_the_state_of_a_redrawn_line(self) -> None:
        splitter = LineSplitter()
        assert not splitter.is_redrawn
        splitter.feed(b"step\n 10%")
        assert not splitter.is_redrawn
        for chunk, state in [(b"\r", " 10%"), (b" 20", " 20"), (b"%\r", " 20%"), (b"\r", " 20%")]:
            splitter.feed(chunk)
            assert (splitter.is_redrawn, splitter.redraw()) == (True, state)
        splitter.feed(b"\n")
        assert (splitter.is_redrawn, splitter.redraw()) == (False, "")

    def test_control_sequences_stay(self) -> None:
        assert lines_of(b"\x1b[31mred\x1b[0m\n") == ["\x1b[31mred\x1b[0m"]

    def test_a_line_as_long_as_allowed_is_whole(self) -> None:
        assert lines_of(b"x" * 8 + b"\r\n", longest=8) == ["x" * 8]

    def test_a_longer_line_comes_in_pieces(self) -> None:
        assert lines_of(b"abcdefghijkl\nmn", longest=5) == ["abcde", "fghij", "kl", "mn"]

    def test_pieces_hold_whole_characters(self) -> None:
        assert lines_of("☃☃☃☃".encode(), longest=8) == ["☃☃", "☃☃"]
        assert lines_of(b"\x80" * 10, longest=8) == ["\ufffd" * 8, "\ufffd" * 2]

    def test_what_is_held_is_bounded(self) -> None:
        splitter = LineSplitter()
        for chunk in (b"x" * 50_000, b"\r", b"\rprogress", b"\r" * 50_000):
            for _ in range(10):
                splitter.feed(chunk)
                assert len(splitter._rest) <= MAX_LINE + 1

    @settings(deadline=None)
    @given(
        pieces=st.lists(
            st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bcd", "☃".encode(), b"\xff", b"\xe2"])
        ),
        cuts=st.lists(st.integers(0, 100)),
    )
    def test_chunks_make_no_difference(self, pieces: list[bytes], cuts: list[int]) -> None:
        data = b"".join(pieces)
        borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        chunks = [data[start:end] for start, end in pairwise(borders)]
        assert lines_of(*chunks, longest=7) == lines_of(data, longest=7)

    @settings(deadline=None)
    @given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"))))
    def test_text_comes_back_line_by_line(self, lines: list[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        assert lines_of(data) == lines

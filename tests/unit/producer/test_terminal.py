from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from producer.terminal import cut, safe, when


def unescaped(shown: str) -> bytes:
    """The bytes that `safe` showed: possible for every output, so nothing was lost or made ambiguous."""

    def back(match: re.Match[str]) -> str:
        escape = match[0][1:]
        if escape[0] == "x":
            return bytes.fromhex(escape[1:]).decode(errors="surrogateescape")
        if escape[0] in "uU":
            return chr(int(escape[1:], 16))
        return {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}[escape]

    pattern = r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[\\nrt])"
    return re.sub(pattern, back, shown).encode(errors="surrogateescape")


@given(st.binary())
def test_any_bytes_show_as_one_printable_line_that_loses_nothing(data: bytes) -> None:
    shown = safe(data)
    assert shown.isprintable()
    assert unescaped(shown) == data


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_shows_as_one_printable_line_that_loses_nothing(text: str) -> None:
    assert safe(text).isprintable()
    assert unescaped(safe(text)) == text.encode()


def test_what_could_harm_a_terminal_is_escaped() -> None:
    assert safe(b"\x1b]0;title\x07") == r"\u001b]0;title\u0007"
    assert safe("a\u202eb") == r"a\u202eb"  # turns the writing direction
    assert safe("\x9b31m") == r"\u009b31m"  # the one-byte form of ESC [
    assert safe(b"caf\xc3\xa9 \xe9") == r"café \xe9"


@given(st.binary(), st.integers(0, 50))
def test_a_cut_shows_a_prefix_and_says_how_much(data: bytes, limit: int) -> None:
    shown = cut(data, limit)
    if len(data) <= limit:
        assert shown == safe(data)
    else:
        prefix, note = shown.rsplit(" … ", 1)
        assert data.startswith(unescaped(prefix))
        assert limit - 3 <= len(unescaped(prefix)) <= limit
        assert note == f"[{len(unescaped(prefix)):,} of {len(data):,} bytes shown]"


def test_a_cut_does_not_split_a_character() -> None:
    assert cut("ééé".encode(), 3) == "é … [2 of 6 bytes shown]"
    assert cut("🎬🎬".encode(), 7) == "🎬 … [4 of 8 bytes shown]"


def test_a_time_no_calendar_has_shows_as_its_number() -> None:
    assert when(0) == "1970-01-01 00:00:00Z"
    assert when(10**18) == str(10**18)

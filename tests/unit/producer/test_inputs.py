from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import inputs
from producer.errors import BadInput, NoInput, UsageError
from producer.inputs import BadRow, Columns, Entry, Format, Row

# What UTF-8 can carry: no lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: not text.isspace())
COLUMNS = Columns()


def rows_of(data: bytes, form: Format, columns: Columns = COLUMNS) -> list[Row]:
    return list(inputs.read(["-"], columns, form, io.BytesIO(data)))


def texts_of(rows: list[Row]) -> list[str]:
    return [row.review.text for row in rows if isinstance(row, Entry)]


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1))
def test_csv_gives_every_row_back_whatever_it_holds(pairs: list[tuple[str, str]]) -> None:
    written = io.StringIO(newline="")
    # Carriage returns alone end a line for nobody but the csv module's reader, which refuses them outside quotes.
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([("text", "id"), *pairs])
    rows = rows_of(written.getvalue().encode(), Format.CSV)
    assert [(row.review.text, row.review.id) for row in rows if isinstance(row, Entry)] == pairs


@given(st.lists(TEXTS, min_size=1))
def test_json_lines_give_every_text_back(texts: list[str]) -> None:
    data = b"".join(msgspec.json.encode({"text": text}) + b"\n" for text in texts)
    assert texts_of(rows_of(data, Format.JSONL)) == texts


@given(st.binary())
@pytest.mark.parametrize("form", list(Format))
def test_random_bytes_give_reviews_or_bad_rows_but_no_crash(form: Format, data: bytes) -> None:
    head = b"text,id\n" if form is Format.CSV else b"text\tid\n" if form is Format.TSV else b""
    for row in rows_of(head + data, form):
        assert isinstance(row, BadRow) or row.review.text.strip()


def test_plain_lines_skip_empty_ones_and_know_their_numbers() -> None:
    rows = rows_of("\ufeffeins\r\n\n  \ncafé\nno end".encode(), Format.LINES)
    assert texts_of(rows) == ["eins", "café", "no end"]
    assert [row.where for row in rows] == ["stdin:1", "stdin:4", "stdin:5"]


@pytest.mark.parametrize(
    ("form", "data", "where", "why"),
    [
        (Format.LINES, b"good\n\xff\xfe\n", "stdin:2", "not UTF-8"),
        (Format.JSONL, b'{"text": "x"}\n{"text"\n', "stdin:2", "not JSON"),
        (Format.JSONL, b'{"text": "x"}\n["x"]\n', "stdin:2", "not a JSON object"),
        (Format.JSONL, b'{"text": "x"}\n{"txt": "y", "id": 1}\n', "stdin:2", "no “text”; it has: txt, id"),
        (Format.JSONL, b'{"text": "x"}\n{"text": 5}\n', "stdin:2", "no “text” that is a text"),
        (Format.JSONL, b'{"text": "x"}\n{"text": "y", "id": []}\n', "stdin:2", "no “id” that is a text or a number"),
        (Format.JSONL, b'{"text": "x"}\n{"text": "y", "attributes": {"a": {}}}\n', "stdin:2", "no “a” that is"),
        (Format.CSV, b"text,id\nx,1\nonly one\n", "stdin:3", "1 fields where the first line names 2"),
        (Format.CSV, b'text,id\n"two\nlines",1\n\xff,2\n', "stdin:4", "not UTF-8"),
        (Format.CSV, b"text,id\nx,1\n ,2\n", "stdin:3", "no “text” that is a text"),
        (Format.TSV, b"text\tid\nx\t1\n\t2\n", "stdin:3", "no “text”"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(form: Format, data: bytes, where: str, why: str) -> None:
    rows = rows_of(data, form)
    assert isinstance(rows[0], Entry)
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert bad.where == where
    assert why in bad.why


@pytest.mark.parametrize("form", [Format.LINES, Format.JSONL, Format.CSV])
def test_an_overlong_line_is_one_bad_row_and_the_next_is_read(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_LINE_BYTES", 64)
    head = b"text\n" if form is Format.CSV else b""
    good = b'{"text": "good"}' if form is Format.JSONL else b"good"
    rows = rows_of(head + b"x" * 1000 + b"\n" + good + b"\n", form)
    assert isinstance(rows[0], BadRow)
    assert texts_of(rows[1:]) == ["good"]
    assert len(rows) == 2


def test_an_endless_line_is_never_held_in_memory() -> None:
    class Endless(io.RawIOBase):
        """512 MiB without a line end; notes the longest piece anyone asks for."""

        longest = 0
        left = 512 << 20

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert size > 0, "asked for a line of any length"
            self.longest = max(self.longest, size)
            piece = min(size, self.left)
            self.left -= piece
            return b"x" * piece

    stream = Endless()
    rows = list(inputs.read(["-"], Columns(), Format.LINES, stream))  # type: ignore[arg-type]  # as much of a stream as is used
    assert [type(row) for row in rows] == [BadRow]
    assert stream.longest <= inputs.MAX_LINE_BYTES + 1


def test_a_csv_quote_that_never_closes_is_a_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_LINE_BYTES", 64)
    rows = rows_of(b'text\ngood\n"never closed\n' + b"line\n" * 100, Format.CSV)
    assert isinstance(rows[0], Entry)
    assert isinstance(rows[1], BadRow)


def test_the_key_is_the_key_column_else_the_id_else_nothing() -> None:
    data = b"text,id,film\nx,1,Alien\ny,2,\nz,,Brazil\n"
    by_film = rows_of(data, Format.CSV, Columns(key="film"))
    assert [row.key for row in by_film if isinstance(row, Entry)] == [b"Alien", b"2", b"Brazil"]
    by_id = rows_of(data, Format.CSV)
    assert [row.key for row in by_id if isinstance(row, Entry)] == [b"1", b"2", None]


def test_attributes_come_from_columns_and_from_the_json_object() -> None:
    [row] = rows_of(
        b'{"text": "x", "stars": 4, "attributes": {"lang": "en", "seen": true}}',
        Format.JSONL,
        Columns(attributes=["stars"]),
    )
    assert isinstance(row, Entry)
    assert row.review.attributes == {"lang": "en", "seen": "true", "stars": "4"}


def test_a_missing_column_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BadInput, match="no column “review”; its columns are: text, label"):
        rows_of(b"text,label\nx,y\n", Format.CSV, Columns(text="review"))
    with pytest.raises(BadInput, match="empty"):
        rows_of(b"", Format.CSV)


def test_files_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("x\n")
    with pytest.raises(NoInput, match=r"missing\.txt: No such file"):
        inputs.read([str(good), str(tmp_path / "missing.txt")], Columns())
    with pytest.raises(NoInput, match="Is a directory"):
        inputs.read([str(tmp_path)], Columns(), Format.LINES)
    with pytest.raises(UsageError, match=r"\.parquet does not tell its format"):
        inputs.read([str(tmp_path / "x.parquet")], Columns())


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.csv", "csv"),
        ("a.CSV", "csv"),
        ("b.tsv", "tsv"),
        ("c.jsonl", "jsonl"),
        ("c.ndjson", "jsonl"),
        ("d.txt", "lines"),
    ],
)
def test_the_extension_tells_the_format(name: str, form: str) -> None:
    assert inputs.format_of(name) == form
    assert inputs.format_of("-") is Format.LINES

"""Malformed records without end: `python -m tests.faults.fuzz --records 1000000 --seed 7`.

Each goes through the worker's decoder, and what it refuses through the dead letter's making as well. Whatever the bytes
are, there is a review with text in it or a reason from the closed list; nothing else is ever raised.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random, SystemRandom

import msgspec
from rich.console import Console
from rich.table import Table

from protos.codecs import ReviewMessage, encode_review
from protos.dead_letters import MAX_MESSAGE_BYTES
from protos.forms import Form
from worker.errors import InvalidReview
from worker.kafka.answers import AnswerWriter
from worker.pipeline.decoding import decoder
from worker.pipeline.preparing import Decode
from worker.records import DeadLetter, Partition, Reason, Record, Window

MAX_BYTES = 4_096
ANSWERED = "answered"
Headers = list[tuple[str, bytes | None]]

SEEDS = [
    b'{"id": "42", "text": "A fine film.", "attributes": {"country": "FR"}}',
    b'{"text": "\\ud83d\\ude00 caf\\u00e9 \\ud800 alone", "id": 7}',
    b"A fine film, in plain words.",
    "Plain words: caf\u00e9 \U0001f600 \u202e\u0000".encode(),
    encode_review(ReviewMessage("42", "A fine film.", {"country": "FR"}), Form.PROTOBUF),
]
CONTENT_TYPES = [
    b"application/json",
    b"application/x-protobuf",
    b"application/protobuf",
    b"text/plain",
    b"text/plain; charset=utf-8",
    b"text/plain; charset=latin-1",
    b"Application/JSON;;;",
    b"application/xml",
    b"",
    b"\xff\xfe",
    b"text/plain;" + b"x=y;" * 200,
]
PIECES = [
    b"{",
    b"}",
    b'"',
    b"[",
    b"null",
    b"1e999",
    b"-0",
    b"9" * 40,
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\n",
]


def random_bytes(random: Random) -> bytes:
    return random.randbytes(random.choice((0, 1, 2, 7, 60, 500)))


def mutated(random: Random) -> bytes:
    """A good value with bytes changed, left out, doubled or put in."""
    value = bytearray(random.choice(SEEDS))
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(value) + 1)
        match random.randrange(4):
            case 0 if at < len(value):
                value[at] = random.randrange(256)
            case 1:
                del value[at : at + random.randint(1, 9)]
            case 2:
                value[at:at] = value[at : at + random.randint(1, 30)]
            case _:
                value[at:at] = random.choice(PIECES)
    return bytes(value)


def cut(random: Random) -> bytes:
    value = random.choice(SEEDS)
    return value[: random.randrange(len(value))]


def nested(random: Random) -> bytes:
    depth = random.choice((3, 100, 1_900))
    opening, closing = random.choice(((b"[", b"]"), (b'{"text":', b"}")))
    return opening * depth + b'"x"' + closing * (depth if random.random() < 0.5 else 0)


def any_json(random: Random) -> bytes:
    """JSON of the wrong shape."""
    values = [None, True, 3, -1.5e308, "", " \t", "text", [], ["text"], {}, {"a": 1}, "x" * 5_000, "\ud800", 10**30]
    names = ["id", "text", "attributes", "TEXT", "", "\u0000", "extra"]
    found = {random.choice(names): random.choice(values) for _ in range(random.randrange(5))}
    return json.dumps(found, ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")


def too_long(random: Random) -> bytes:
    return random.choice((b"a", b" ", b"\x00", b"\xc3\xa9")) * random.choice((MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1))


def white(random: Random) -> bytes:
    return b"".join(random.choice((b" ", b"\n", "\u2003".encode(), b"\x00", b"\xef\xbb\xbf")) for _ in range(5))


MAKERS: list[Callable[[Random], bytes]] = [random_bytes, mutated, mutated, cut, nested, any_json, too_long, white]


def value(random: Random) -> bytes | None:
    """A value that is probably no review."""
    return None if random.random() < 0.02 else random.choice(MAKERS)(random)


def headers(random: Random) -> Headers:
    """Headers that may name a form, may name it twice, and may be nonsense."""
    found: Headers = []
    for _ in range(random.choice((0, 0, 1, 1, 2, 5))):
        name = random.choice(("content-type", "Content-Type", "", "x" * 300, "\u0000", "inferry-attempts", "caf\u00e9"))
        content = None if random.random() < 0.1 else random.choice((*CONTENT_TYPES, b"9" * 30, random.randbytes(9)))
        found.append((name, content))
    return found


def records(seed: int, count: int) -> Iterator[Record]:
    """The seed's records; a longer run begins as a shorter one does."""
    random = Random(seed)
    for offset in range(count):
        key = random.choice((None, b"", b"key", random.randbytes(8)))
        yield Record("reviews", 0, offset, 0, key, value(random), headers(random))  # type: ignore[arg-type]  # null headers


def run(seed: int, count: int) -> Counter[str]:
    """What became of each record: ANSWERED, or its reason. Raises AssertionError with the record that broke a promise."""
    decode = decoder(MAX_BYTES)
    writer = AnswerWriter(
        output_topic="labels",
        dead_letter_topic="dead",
        partitions={"reviews": 3, "labels": 3, "dead": 3},
        form=Form.JSON,
        group="fuzz",
        worker="fuzz",
        now_seconds=time.time,
        audit=True,
    )
    outcomes: Counter[str] = Counter()
    for record in records(seed, count):
        try:
            outcomes[_outcome(record, decode, writer)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, record {record.offset}: {msgspec.to_builtins(record)}") from error
    return outcomes


def _outcome(record: Record, decode: Decode, writer: AnswerWriter) -> str:
    try:
        review = decode(record)
    except InvalidReview as refused:
        invalid = refused
    else:
        assert isinstance(review.text, str)
        assert review.text.strip()
        return ANSWERED
    assert isinstance(invalid.reason, Reason)
    assert 0 < len(invalid.detail) < MAX_MESSAGE_BYTES
    window = Window([record], {Partition("reviews", 0): record.offset + 1})
    out = writer.dead_letter(window, DeadLetter(record, invalid.reason, invalid.detail))
    assert out.value is not None or out.key is not None
    assert all(isinstance(name, str) and isinstance(content, bytes) for name, content in out.headers)
    return invalid.reason.value


def main() -> int:
    """Fuzzes the decoder and shows what became of the records."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000))
    parser.add_argument("--records", type=int, default=1_000_000)
    given = parser.parse_args()
    outcomes = run(given.seed, given.records)
    table = Table("outcome", "records", title=f"seed {given.seed}")
    for name, times in outcomes.most_common():
        table.add_row(name, f"{times:,}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

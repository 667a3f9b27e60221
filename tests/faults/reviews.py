"""What a fault run sends: reviews whose scores are known beforehand, and records that nobody can answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from protos.codecs import ReviewMessage, encode_review
from protos.forms import Form
from tests.faults.checker import Expected
from tests.support.models import BAD, GOOD, PLAIN, TinyModel
from worker.records import Record

POISON = "venom"
"""The word whose token crashes the model server."""
TEXTS = 3_000
POISONED_TEXTS = 5
KEYS = 500

JSON_HEADER = ("content-type", b"application/json")
Headers = list[tuple[str, bytes]]

MALFORMED: dict[bytes, tuple[str, Headers]] = {
    b"": ("empty", []),
    b'{"text": ""}': ("empty", []),
    b'{"text": 3}': ("malformed", []),
    b'{"text": "a fine': ("malformed", []),
    b'{"id": "no text"}': ("no-text", []),
    b"\xff\xfe a fine film": ("not-utf8", []),
    b"[1, 2]": ("malformed", [JSON_HEADER]),
    b"<p>a fine film</p>": ("unknown-content-type", [("content-type", b"text/html")]),
    b"\x0a\xff\xff\xff\xff\xff": ("malformed", [("content-type", b"application/x-protobuf")]),
}
"""Value: the reason of its dead letter, and the headers it is sent with."""


class InputRecord(msgspec.Struct, frozen=True):
    """One record to send."""

    key: bytes | None
    value: bytes
    headers: Headers


class Reviews:
    """A seeded stream of records, and what has to become of each. `models`: by the remainder of the version by their number,
    so that versions 1, 3, 5 … are one model and 2, 4, 6 … the other."""

    def __init__(self, seed: int, models: Sequence[TinyModel], *, malformed_share: float, poison_share: float) -> None:
        random = Random(seed)
        self._random = random
        self._malformed_share = malformed_share
        self._poison_share = poison_share
        self.texts = [_text(random, number) for number in range(TEXTS)]
        self._poisoned = [f"{_text(random, number)} {POISON} in it" for number in range(POISONED_TEXTS)]
        self._scores = [model.score(self.texts) for model in models]
        self._index = {text: index for index, text in enumerate(self.texts)}
        self._malformed = list(MALFORMED)
        self._expected: dict[int, Expected] = {}
        self._sent = 0

    def next(self) -> InputRecord:
        """The next record of the stream."""
        random = self._random
        self._sent += 1
        key = None if random.random() < 0.05 else str(random.randrange(KEYS)).encode()
        dice = random.random()
        if dice < self._malformed_share:
            value = random.choice(self._malformed)
            return InputRecord(key, value, MALFORMED[value][1])
        poisoned = dice < self._malformed_share + self._poison_share
        text = random.choice(self._poisoned if poisoned else self.texts)
        return self._review(key, text, random.random())

    def _review(self, key: bytes | None, text: str, dice: float) -> InputRecord:
        if dice < 0.1:
            return InputRecord(key, text.encode(), [])
        message = ReviewMessage(f"review {self._sent}", text, {})
        if dice < 0.2:
            form = Form.PROTOBUF
            return InputRecord(key, encode_review(message, form), list(form.headers))
        return InputRecord(key, json.dumps({"id": message.id, "text": text}).encode(), [])

    def expect(self, record: Record) -> Expected:
        """What has to become of a record of this stream."""
        value = record.value or b""
        if value in MALFORMED:
            return Expected(reasons=frozenset({MALFORMED[value][0]}))
        text = _text_of(value)
        if POISON in text:
            return Expected(reasons=frozenset({"crashes-model"}))
        index = self._index[text]
        if index not in self._expected:
            self._expected[index] = Expected(scores=_ByVersion([scores[index] for scores in self._scores]))
        return self._expected[index]


class _ByVersion(dict[int, float]):
    """Scores by version, however many versions there will be."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__({version: scores[version % len(scores)] for version in range(1, 1_000)})


def _text(random: Random, number: int) -> str:
    """About 30 words; the number makes it the only one of its kind."""
    words = [random.choice(random.choice((GOOD, BAD, PLAIN, PLAIN))) for _ in range(random.randint(5, 55))]
    return f"{' '.join(words)} {number}"


def _text_of(value: bytes) -> str:
    """The text of a well-formed record of ours, found without the worker's decoder."""
    if value.startswith(b"{"):
        found: Mapping[str, str] = json.loads(value)
        return found["text"]
    if value[:1] == b"\x0a":  # protobuf: field 1, the id
        from protos.inferry.v1 import review_pb2

        return review_pb2.Review.FromString(value).text
    return value.decode()

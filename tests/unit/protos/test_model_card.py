"""The card that trainer and worker share: its bytes, and what is no card."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from protos.model_card import NORMALISED_FORMAT, PLAIN_1, Card, EncoderKind

CARD = Card(1, EncoderKind.SUBWORDS, 7_900, 8_157, "sha256:00ff", ("negative", "positive"), 0.6, 4_096)
BYTES = (
    b'{"format":1,"encoder":"tfds-subwords","subwords":7900,"vocabulary_size":8157,"digest":"sha256:00ff",'
    b'"labels":["negative","positive"],"threshold":0.6,"max_tokens":4096,"padding_id":0}'
)
"""What models that were exported before hold, and what workers that run read."""


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(BYTES), **fields}).encode()


def test_the_bytes_of_a_card_stay_as_they_are() -> None:
    assert CARD.dump() == BYTES
    assert Card.parse(BYTES) == CARD


def test_a_card_may_say_more_than_is_read_and_leave_out_the_padding() -> None:
    assert Card.parse(changed(author="somebody")) == CARD
    assert Card.parse(BYTES.replace(b',"padding_id":0', b"")) == CARD


def test_what_a_card_says_beyond_the_first_ones_survives() -> None:
    card = msgspec.structs.replace(CARD, format=NORMALISED_FORMAT, normaliser=PLAIN_1, uncertain=(0.4, 0.6))
    assert Card.parse(card.dump()) == card


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "cannot be read: Expected `object`"),
        (changed(encoder="morse"), "cannot be read: Invalid enum value 'morse'"),
        (changed(labels=None), "cannot be read: Expected `array`"),
        (BYTES.replace(b'"threshold":0.6,', b""), "missing required field `threshold`"),
        (changed(format=3), "has format 3; only the formats 1 and 2 can be read"),
        (changed(normaliser=None), "cannot be read: Expected `str`"),
        (changed(uncertain=[0.6, 0.4]), "no range of scores between 0 and 1"),
        (changed(uncertain=[0.4, 1.5]), "no range of scores between 0 and 1"),
    ],
)
def test_what_is_no_card_is_refused_with_a_sentence(content: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Card.parse(content)

"""A record becomes a review, or an InvalidReview that says why not."""

from __future__ import annotations

from protos.codecs import CodecError, ReviewMessage, decode_review
from worker.errors import InvalidReview
from worker.pipeline.preparing import Decode
from worker.records import Reason, Record


def decoder(max_bytes: int) -> Decode:
    """A decode function for values of at most `max_bytes` bytes."""

    def decode(record: Record) -> ReviewMessage:
        try:
            message = decode_review(record.value, record.headers, max_bytes=max_bytes)
        except CodecError as error:
            raise InvalidReview(Reason(error.reason), error.detail) from error
        return message if message.id else ReviewMessage(record.result_id, message.text, message.attributes)

    return decode

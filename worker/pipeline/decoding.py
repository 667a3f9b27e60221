"""A record becomes a review, or an InvalidReview that says why not."""

from __future__ import annotations

from protos.codecs import CodecError, ReviewMessage, decode_review
from worker.errors import InvalidReview
from worker.pipeline.preparing import Decode
from worker.records import UNREADABLE_HEADERS, Reason, Record


def decoder(max_bytes: int) -> Decode:
    """A decode function for values of at most `max_bytes` bytes."""

    def decode(record: Record) -> ReviewMessage:
        if record.headers is UNREADABLE_HEADERS:
            # They may have said that the value is no text; a score of it as one would be a wrong answer.
            raise InvalidReview(
                Reason.MALFORMED, "A header's name is not UTF-8, and the Kafka client reads none of them then."
            )
        try:
            message = decode_review(record.value, record.headers, max_bytes=max_bytes)
        except CodecError as error:
            raise InvalidReview(Reason(error.reason), error.detail) from error
        return message if message.id else ReviewMessage(record.result_id, message.text, message.attributes)

    return decode

"""What a number of reviews pushed together and their answers say: accuracy, throughput and latency. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from producer.inputs import Entry
from protos.codecs import ResultMessage, ReviewMessage


class Answer(NamedTuple):
    """One review's first result, and when it was in the reader's hands (seconds since the epoch)."""

    result: ResultMessage
    received_at: float


class Accuracy(NamedTuple):
    """How many of the reviews with a known label got it."""

    right: int
    known: int

    @property
    def share(self) -> float:
        """From 0 to 1; 0 where no label is known."""
        return self.right / self.known if self.known else 0.0


@dataclass
class Trial:
    """Reviews, when each was handed to the producer, and the answers as far as they have come, by review id."""

    reviews: Sequence[Entry]
    sent_at: dict[str, float] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = {entry.review.id for entry in self.reviews}

    @property
    def complete(self) -> bool:
        """Whether every review is answered."""
        return len(self.answers) == len(self._ids)

    @property
    def model_version(self) -> int:
        """The newest version that answered; 0 before the first."""
        return max((answer.result.model_version for answer in self.answers.values()), default=0)

    def take(self, result: ResultMessage, received_at: float) -> None:
        """Notes a result if it answers one of these reviews for the first time."""
        if result.review_id in self._ids and result.review_id not in self.answers:
            self.answers[result.review_id] = Answer(result, received_at)

    def accuracy(self, counts: Callable[[ReviewMessage], bool] = lambda _: True) -> Accuracy:
        """Over the answered reviews that carry a `label` attribute and for which `counts` says so."""
        right = known = 0
        for entry in self.reviews:
            label = entry.review.attributes.get("label")
            answer = self.answers.get(entry.review.id)
            if label is not None and answer is not None and counts(entry.review):
                known += 1
                right += answer.result.label == label
        return Accuracy(right, known)

    def latencies_seconds(self) -> list[float]:
        """From handing a review to the producer to having its result, shortest first."""
        return sorted(answer.received_at - self.sent_at[name] for name, answer in self.answers.items())

    def per_second(self) -> float:
        """Answered reviews a second, from the first review sent to the last result received."""
        if not self.answers:
            return 0.0
        seconds = max(answer.received_at for answer in self.answers.values()) - min(self.sent_at.values())
        return len(self.answers) / seconds if seconds > 0 else 0.0


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank); `ordered` is not empty."""
    rank = -(-len(ordered) * percent // 100)  # ceiling
    return ordered[max(int(rank) - 1, 0)]

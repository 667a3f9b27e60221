"""A version is tried out before it is used: its metadata does not say whether its outputs are usable scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from worker.errors import ModelMismatch, ServingRejected, ServingUnavailable
from worker.ports import Encoder
from worker.records import Tensor

TEXTS = (
    "This movie was great, I loved it.",
    "A terrible film: boring, badly acted and far too long.",
    "I saw it the other day and it was not bad at all.",
    "good",
    "bad",
    "The worst film of the year. Do not waste your time on it!",
    "An excellent cast, a clever plot and a beautiful ending; one of the best films that I have ever seen.",
    "the",
)
"""Several and unlike each other: a logit lies within [0, 1] by chance for some texts, hardly for all of them."""


Reply = TypeVar("Reply")


def try_out(
    encoder: Encoder,
    ask: Callable[[Tensor], Reply],
    read: Callable[[Reply], Sequence[float]],
    *,
    logits: bool,
    what: str,
) -> Tensor:
    """Has each text scored by itself, and returns the request of one that was answered well, to be asked again as a probe.

    `ask` sends a request of one row; what it raises goes on to the caller, but for ServingRejected. `read` takes the row's
    scores out of the reply: finite, in any range; ServingUnavailable says that they are of no use. Some texts may fail in
    either way, as some reviews may.

    Raises ModelMismatch where all of them fail, and where a single score is outside [0, 1] although it is no logit."""
    well: Tensor | None = None
    why = ""
    for text in TEXTS:
        rows = encoder.encode_many([text])
        tensor = rows.tensor([0], rows.tokens[0])
        try:
            reply = ask(tensor)
        except ServingRejected as error:
            why = str(error)
            continue
        try:
            scores = read(reply)
        except ServingUnavailable as error:
            why = str(error)
            continue
        if not logits and len(scores) == 1 and not 0.0 <= scores[0] <= 1.0:
            raise ModelMismatch(
                f"{what} gives the score {scores[0]:g} for {text!r}, which is outside [0, 1]: its output seems to be a "
                "logit. Set `logits` (--logits), or have the model apply the sigmoid."
            )
        well = well or tensor
    if well is None:
        raise ModelMismatch(f"{what} has no usable score for any of {len(TEXTS)} plain sentences: {why}")
    return well

"""What a gRPC status means for a prediction. Decided by where TensorFlow Serving and gRPC themselves give each status.

- NOT_FOUND: the servable of this name and version is not there (tensorflow_serving/core/basic_manager.cc). ModelGone.
- INVALID_ARGUMENT, OUT_OF_RANGE: the tensors are wrong (servables/tensorflow/predict_util.cc, TensorFlow's kernels), and
  so is a message above the receiver's size limit, although gRPC calls that RESOURCE_EXHAUSTED. ServingRejected: smaller
  requests may pass, and what fails alone is a review that the model refuses.
- Everything else says nothing about the reviews. ServingUnavailable. Two of these look like rejections and are not:
  FAILED_PRECONDITION is a signature that does not exist or a model that is not initialised, and UNIMPLEMENTED is what
  gRPC makes of an HTTP 404, as a proxy in front of an absent server answers. Taken for rejections, either would turn
  every review into a dead letter until somebody noticed.
"""

from __future__ import annotations

from typing import NamedTuple

from worker.errors import Cause, ModelGone, ServingRejected, ServingUnavailable

TOO_LARGE = "larger than max"
"""In the details that grpc's message_size_filter gives, on either side, in either direction."""
MAX_DETAIL_CHARACTERS = 500


class Meaning(NamedTuple):
    """What a gRPC status means to the worker."""

    error: type[ServingUnavailable | ServingRejected | ModelGone] = ServingUnavailable
    cause: Cause = Cause.AWAY
    """Of a ServingUnavailable."""
    lowers_limit: bool = False
    """Whether fewer requests are kept in flight afterwards."""
    outage: bool = False
    """Whether the connection was lost, so that the server may come back as another one."""


MEANINGS = {
    "UNAVAILABLE": Meaning(lowers_limit=True, outage=True),
    "DEADLINE_EXCEEDED": Meaning(lowers_limit=True),
    "RESOURCE_EXHAUSTED": Meaning(cause=Cause.OVERLOADED, lowers_limit=True),
    "NOT_FOUND": Meaning(ModelGone),
    "INVALID_ARGUMENT": Meaning(ServingRejected),
    "OUT_OF_RANGE": Meaning(ServingRejected),
}
OTHERWISE = Meaning()


def meaning_of(status: str, details: str = "") -> Meaning:
    """What a gRPC status name means, given what the server said beside it."""
    if status == "RESOURCE_EXHAUSTED" and TOO_LARGE in details:
        return Meaning(ServingRejected)
    return MEANINGS.get(status, OTHERWISE)


def error_for(status: str, details: str, what: str) -> ServingUnavailable | ServingRejected | ModelGone:
    """The error for a gRPC status name. `what` says what was asked of whom."""
    message = f"{what}: {status}: {details[:MAX_DETAIL_CHARACTERS]}"
    meaning = meaning_of(status, details)
    if meaning.error is ModelGone:
        return ModelGone(message)
    if meaning.error is ServingRejected:
        return ServingRejected(message, status=status)
    return ServingUnavailable(message, meaning.cause, status=status)


def unavailable(message: str) -> ServingUnavailable:
    """The error for what no status says: nothing can be asked of the version for now."""
    return ServingUnavailable(message, status="UNAVAILABLE")


def given_up(what: str, why: str = "the call was given up.") -> ServingUnavailable:
    """The error of a call that this worker ended itself."""
    return ServingUnavailable(f"{what}: {why}", status="CANCELLED")


def no_version(message: str) -> ServingUnavailable:
    """The error that says: the server answered, and it has no version for us."""
    return ServingUnavailable(message, Cause.NO_VERSION, status="NOT_FOUND")


def bad_reply(what: str, why: str) -> ServingUnavailable:
    """The error for a reply that failed its checks."""
    return ServingUnavailable(f"{what}: the reply makes no sense: {why}.", Cause.BAD_REPLY)

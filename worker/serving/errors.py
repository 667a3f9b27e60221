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

from worker.errors import BAD_REPLY, ModelGone, ServingRejected, ServingUnavailable

LOWER_THE_LIMIT = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})
"""Statuses after which fewer requests are kept in flight."""
REJECTED = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE"})
NO_VERSION = "NOT_FOUND"
"""The status of a ServingUnavailable that says: the server answered, and it has no version for us."""
TOO_LARGE = "larger than max"
"""In the details that grpc's message_size_filter gives, on either side, in either direction."""
MAX_DETAIL_CHARACTERS = 500


def error_for(status: str, details: str, what: str) -> ServingUnavailable | ServingRejected | ModelGone:
    """The error for a gRPC status name. `what` says what was asked of whom."""
    message = f"{what}: {status}: {details[:MAX_DETAIL_CHARACTERS]}"
    if status == "NOT_FOUND":
        return ModelGone(message)
    if status in REJECTED or (status == "RESOURCE_EXHAUSTED" and TOO_LARGE in details):
        return ServingRejected(message, status)
    return ServingUnavailable(message, status)


def bad_reply(what: str, why: str) -> ServingUnavailable:
    """The error for a reply that failed its checks."""
    return ServingUnavailable(f"{what}: the reply makes no sense: {why}.", BAD_REPLY)

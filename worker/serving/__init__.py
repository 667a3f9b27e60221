"""TensorFlow Serving as the worker's model: which version to use, how to feed it, and the calls under way.

Its door is `make_model`, which asks nothing yet; `open_model` waits for the first version, `open_shadow` is the second
version that scores aside."""

from worker.serving.opening import make_model, open_model, open_shadow

__all__ = ["make_model", "open_model", "open_shadow"]

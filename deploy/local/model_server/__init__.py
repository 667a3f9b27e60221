"""A stand-in for TensorFlow Serving on one machine: the same flags, gRPC and REST, no Docker and no root.

It runs every SavedModel as TensorFlow Serving does, in a session over the graph that the model's signatures name, so
that scores and the kernels' error messages come from the same code. It is not meant to be reached from other
machines: `deploy/compose` runs the official server for that.

Where TensorFlow Serving's behaviour is copied, a comment names the file in its source that says so
(paths under `tensorflow_serving/` in github.com/tensorflow/serving).
"""

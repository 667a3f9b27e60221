"""The wire-compatible part of the messages of TensorFlow and TensorFlow Serving that we use."""

"""Versions of a model as TensorFlow Serving sees them: written, listed, labelled."""

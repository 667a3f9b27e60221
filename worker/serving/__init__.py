"""TensorFlow Serving as the worker's model: versions, signatures, calls under way."""

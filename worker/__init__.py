"""The worker: reviews from Kafka, through TensorFlow Serving, to labelled results."""

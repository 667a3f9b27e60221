"""Text to token ids: the vocabulary of each model version, and one encoder for each kind of it."""

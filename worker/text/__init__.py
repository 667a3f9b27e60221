"""Text to what a model takes: one encoder port, and a form of it for each kind of vocabulary.

Its door is `build_encoder`, which makes the encoder of one model version from all that the version says of itself."""

from worker.text.factory import build_encoder, normalised, subword_encoder, subword_encoder_name
from worker.text.normalising import normaliser
from worker.text.vocabulary import Vocabulary

__all__ = ["Vocabulary", "build_encoder", "normalised", "normaliser", "subword_encoder", "subword_encoder_name"]

"""The loop: windows go from the source through the model to the delivery, in the order of their polls.

Its door is `assemble`, which puts a Pipeline between a Source, a Model and a Delivery."""

from worker.pipeline.pipeline import Options, Outcome, Pipeline, assemble

__all__ = ["Options", "Outcome", "Pipeline", "assemble"]

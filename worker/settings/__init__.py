"""Every setting of the worker: a file for each group, `whole` for what spans groups and for reading them.

Its door is `Settings`, and `load`, which makes it."""

from worker.settings.whole import Settings, load

__all__ = ["Settings", "load"]

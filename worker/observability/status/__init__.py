"""The page at the port's root, for a person who looks at one worker: /, /status.json and /readme.

Its door is `StatusPage`: everything it tells is read from metric families, those of /metrics, so that both say the same."""

from worker.observability.status.routes import About, StatusPage

__all__ = ["About", "StatusPage"]

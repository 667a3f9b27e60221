"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

Bootstrap = Annotated[
    str | None,
    Parameter(
        help="Kafka's address. Else INFERRY_BOOTSTRAP, else the running `inferry-local` stack, else localhost:9092."
    ),
]


def _default(value: Any) -> str | None:
    """What help prints as an option's default: nothing where it means "not given"."""
    return None if value in ((), False, None) else str(value)


PLAIN = Parameter(negative=(), show_default=_default)
"""For whole apps: no `--no-…` and `--empty-…` twins, which nothing here needs."""

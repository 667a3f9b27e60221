"""The stack's own files, without its programs."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from deploy.local.stack import FREE_PORTS, Stack


class Reached(Exception):
    """The model server would start now."""


def test_a_stack_in_a_folder_that_is_not_there_yet_comes_as_far_as_its_model_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts first, as it takes longest: nothing else has made the folder before it."""

    def program(*_: object) -> NoReturn:
        raise Reached

    monkeypatch.setattr(Stack, "_program", program)
    folder = tmp_path / "new" / "stack"
    with pytest.raises(Reached), Stack(folder, ports=FREE_PORTS) as stack:
        stack.start()
    assert "enable: true" in (folder / "monitoring.config").read_text()

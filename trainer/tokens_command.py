"""`inferry-trainer tokens`: a text's subwords, one by one."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from trainer import registry
from trainer.terminal import OUT


def show(text: str, base_path: Path, vocabulary_file: Path | None) -> None:
    """Prints ids and subwords in order, the ids as one line, and the text decoded again. Raises TrainerError."""
    if vocabulary_file is None:
        vocabulary = registry.newest(base_path).vocabulary()
    else:
        vocabulary = registry.read_vocabulary(vocabulary_file)
    pieces = vocabulary.pieces(text)
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("subword")
    for token, subword in pieces:
        table.add_row(str(token), Text(repr(subword)))
    ids = [token for token, _ in pieces]
    OUT.print(table)
    OUT.print(f"ids: {ids}", soft_wrap=True)
    OUT.print(Text(f"decoded: {vocabulary.decode(ids)}"), soft_wrap=True)
    OUT.print(f"vocabulary: {vocabulary.size:,} ids, {vocabulary.digest}", soft_wrap=True)

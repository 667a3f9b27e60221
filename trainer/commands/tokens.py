"""`inferry-trainer tokens` and `import-tokenizer`: a text's subwords, one by one, and vocabularies from elsewhere."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from trainer import blog_tokenizer
from trainer.errors import DataError, ExportError
from trainer.terminal import OUT
from trainer.versions import registry


def show(text: str, base_path: Path, vocabulary_file: Path | None) -> None:
    """Prints ids and subwords in order, the ids as one line, and the text decoded again: as the version's card says, or as
    it is where a vocabulary file is named. Raises TrainerError."""
    if vocabulary_file is None:
        version = registry.newest(base_path)
        vocabulary, normalise = version.vocabulary(), version.normaliser()
    else:
        vocabulary, normalise = registry.read_vocabulary(vocabulary_file), str
    pieces = vocabulary.pieces(normalise(text))
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


def import_pickled(pickled: Path, output: Path) -> None:
    """Writes the vocabulary of a pickled tokenizer as a `.subwords` file; never over another. Raises TrainerError."""
    try:
        vocabulary = blog_tokenizer.read(pickled.read_bytes())
    except DataError as error:
        raise DataError(f"{pickled}: {error}") from None
    except OSError as error:
        raise DataError(f"cannot read {pickled}: {error}") from error
    try:
        with output.open("xb") as file:
            file.write(vocabulary.dump())
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error}") from error
    OUT.print(f"{output}: {len(vocabulary.subwords):,} subwords, {vocabulary.digest}", soft_wrap=True)

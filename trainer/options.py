"""What the commands can be told. Imports no TensorFlow, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from protos.model_card import MAX_TOKENS, THRESHOLD

Choice = Literal["auto", "tfds", "package"]
Count = Annotated[int, Parameter(validator=Number(gte=1))]
Models = Annotated[Path, Parameter(name=["--models", "--models-dir"], help="Folder with one folder for each model.")]
Name = Annotated[str, Parameter(help="The model's name: its folder in --models.")]
Config = Annotated[
    Path | None,
    Parameter(
        help="TensorFlow Serving's model configuration file, which holds the labels. Else models.config in --models."
    ),
]
DataChoice = Annotated[
    Choice, Parameter(help="auto: tensorflow_datasets' imdb_reviews if it can be had, else the package's reviews.")
]
DataDir = Annotated[Path | None, Parameter(help="Where tensorflow_datasets keeps its data.")]

PLAIN = Parameter(negative=())
"""For the whole app: no `--no-…` and `--empty-…` twins, which nothing here needs."""


def _is_range(_: type[object], value: tuple[float, float] | None) -> None:
    if value is None:
        return
    if not 0 <= value[0] < value[1] <= 1:
        raise ValueError("FROM has to be below TO, and both between 0 and 1")
    if not value[0] <= THRESHOLD <= value[1]:
        raise ValueError(
            f"FROM to TO has to hold the threshold {THRESHOLD:g}: beyond it a score would change its label"
        )


@dataclass(frozen=True)
class Training:
    """How to train. The defaults give the model that the README shows."""

    seed: Annotated[int, Parameter(help="Same seed, data and machine: same model.", validator=Number(gte=0))] = 2
    epochs: Annotated[Count, Parameter(help="At most so many; it stops when validation gets no better.")] = 10
    vocabulary_size: Annotated[int, Parameter(help="About so many token ids.", validator=Number(gte=300))] = 2**13
    max_tokens: Annotated[Count, Parameter(help="Tokens after which a review is cut.")] = MAX_TOKENS
    uncertain: Annotated[
        tuple[float, float] | None,
        Parameter(help="FROM and TO: scores between get the label uncertain, in place of either.", validator=_is_range),
    ] = None
    data: DataChoice = "auto"
    data_dir: DataDir = None
    limit: Annotated[
        Count | None,
        Parameter(help="Train on so many reviews only, for a trial; such a model is exported however good it is."),
    ] = None

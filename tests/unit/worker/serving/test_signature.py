"""What a model says of itself, against what can be fed and read: each mismatch is a sentence that names what is there."""

from __future__ import annotations

from typing import Any

import pytest

from protos.serving import prediction_pb2
from tests.support.fake_serving import info, serving_default, signature
from worker.errors import ModelMismatch
from worker.records import DType
from worker.serving.options import Options
from worker.serving.signature import Endpoint, describe

TOKENS = info("DT_INT32", -1, -1)
SCORE = info("DT_FLOAT", -1, 1)


def described(found: prediction_pb2.SignatureDef, **options: Any) -> Endpoint:
    return describe(5, {"serving_default": found}, None, Options(model="m", **options))


def test_the_seed_model_fits() -> None:
    endpoint = described(serving_default())

    assert (endpoint.input_name, endpoint.dtype, endpoint.length) == ("tokens", DType.INT32, None)
    assert (endpoint.output_name, endpoint.columns) == ("score", (1,))


@pytest.mark.parametrize(
    ("fed", "length", "as_column"),
    [
        (info("DT_INT32", -1, -1), None, False),
        (info("DT_INT64", -1, 256), 256, False),
        (info("DT_FLOAT", -1, -1), None, False),
        (info("DT_INT64", rank_known=False), None, False),
        (info("DT_STRING", -1), None, False),
        (info("DT_STRING", -1, 1), None, True),
        (info("DT_STRING", rank_known=False), None, False),
    ],
)
def test_inputs_that_can_be_fed(fed: prediction_pb2.TensorInfo, length: int | None, as_column: bool) -> None:
    endpoint = described(signature({"x": fed}, {"score": SCORE}))

    assert (endpoint.length, endpoint.as_column) == (length, as_column)


def test_a_fixed_length_limits_the_tokens() -> None:
    assert described(signature({"x": info("DT_INT32", -1, 100)}, {"score": SCORE})).max_tokens == 100
    assert described(signature({"x": info("DT_INT32", -1, 100)}, {"score": SCORE}), max_tokens=7).max_tokens == 7


@pytest.mark.parametrize(
    ("read", "labels", "columns"),
    [
        (info("DT_FLOAT", -1), (), (1,)),
        (info("DT_DOUBLE", -1, 1), (), (1,)),
        (info("DT_FLOAT", -1, 2), (), (2,)),
        (info("DT_FLOAT", -1, 3), ("a", "b", "c"), (3,)),
        (info("DT_FLOAT", -1, -1), ("a", "b", "c"), (3,)),
        (info("DT_FLOAT", rank_known=False), (), (1, 2)),
    ],
)
def test_outputs_that_can_be_read(
    read: prediction_pb2.TensorInfo, labels: tuple[str, ...], columns: tuple[int, ...]
) -> None:
    assert described(signature({"x": TOKENS}, {"score": read}), labels=labels).columns == columns


@pytest.mark.parametrize(
    ("found", "options", "sentence"),
    [
        (
            signature({"tokens": info("DT_DOUBLE", -1, 30)}, {"score": SCORE}),
            {},
            "serving_default of version 5 of model m: input tokens (DT_DOUBLE [-1, 30]): only DT_INT32, DT_INT64, DT_FLO",
        ),
        (signature({"tokens": info("DT_INT32", 8, 30)}, {"score": SCORE}), {}, "first dimension must be open (-1)"),
        (signature({"tokens": info("DT_INT32")}, {"score": SCORE}), {}, "(DT_INT32 []): the first dimension"),
        (signature({"tokens": info("DT_INT32", -1)}, {"score": SCORE}), {}, "are fed in shape [-1, -1]"),
        (signature({"text": info("DT_STRING", -1, 3)}, {"score": SCORE}), {}, "text is fed in shape [-1] or [-1, 1]"),
        (
            signature({"ids": TOKENS, "mask": info("DT_INT32", -1, -1)}, {"score": SCORE}),
            {"input_name": "ids"},
            "has not one input but 2: ids (DT_INT32 [-1, -1]), mask (DT_INT32 [-1, -1]).",
        ),
        (signature({}, {"score": SCORE}), {}, "has not one input but 0: none."),
        (signature({"tokens": TOKENS}, {"score": SCORE}), {"input_name": "x"}, "no input x; it has tokens (DT_INT32"),
        (
            signature({"tokens": TOKENS}, {"a": SCORE, "b": info("DT_INT64", -1)}),
            {},
            "has 2 outputs: a (DT_FLOAT [-1, 1]), b (DT_INT64 [-1]). Name one with `output_name`.",
        ),
        (signature({"tokens": TOKENS}, {"a": SCORE}), {"output_name": "b"}, "no output b; it has a (DT_FLOAT [-1, 1])"),
        (signature({"tokens": TOKENS}, {"a": info("DT_HALF", -1, 1)}), {}, "output a (DT_HALF [-1, 1]): only DT_FLOAT"),
        (signature({"tokens": TOKENS}, {"a": info("DT_FLOAT", -1, 1, 1)}), {}, "scores are read in shape"),
        (
            signature({"tokens": TOKENS}, {"a": info("DT_FLOAT", -1, 3)}),
            {},
            "3 scores do not fit the 2 labels negative",
        ),
        (signature({"tokens": TOKENS}, {"a": SCORE}), {"labels": ("x", "y", "z")}, "1 scores do not fit the 3 labels"),
        (
            signature({"tokens": TOKENS}, {"score": SCORE}),
            {"signature": "other"},
            "signature other; it has serving_def",
        ),
        (
            signature({"inputs": info("DT_STRING", -1)}, {"scores": SCORE}, "tensorflow/serving/classify"),
            {},
            "takes serialised tf.Examples",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    found: prediction_pb2.SignatureDef, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ModelMismatch) as error:
        described(found, **options)
    assert sentence in str(error.value)


def test_one_of_several_outputs_can_be_named() -> None:
    found = signature({"tokens": TOKENS}, {"a": SCORE, "b": info("DT_INT64", -1)})

    assert described(found, output_name="a").output_name == "a"

"""The REST API's JSON: numbers, layout, and tensors in and out, as TensorFlow Serving has them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.model_server_models import tf

from deploy.local.model_server.json_inputs import parse_inputs  # isort: skip  # after tf, which imports quietly
from deploy.local.model_server.json_outputs import outputs_body, predictions_body  # isort: skip
from deploy.local.model_server.json_text import debug_text, decimal, error_body, parse_object  # isort: skip
from deploy.local.model_server.status import StatusError  # isort: skip


@dataclass
class Info:
    dtype: int


def infos(**dtypes: Any) -> dict[str, Info]:
    return {name: Info(dtype.as_datatype_enum) for name, dtype in dtypes.items()}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.97, "0.97"),
        (0.0689155161, "0.0689155161"),  # the tutorial's own output
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (9000000.0, "9e+06"),
        (0.00003, "3e-05"),
        (16777216.0, "16777216.0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_floats_are_written_as_tensorflow_serving_writes_them(value: float, text: str) -> None:
    assert decimal(float(np.float32(value)), np.float32) == text


@given(st.floats(width=32))
def test_a_float_comes_back_as_it_was(value: float) -> None:
    back = np.float32(json.loads(decimal(value, np.float32)))
    assert back == np.float32(value) or (math.isnan(back) and math.isnan(value))


@given(st.floats())
def test_a_double_comes_back_as_it_was(value: float) -> None:
    back = json.loads(decimal(value, np.float64))
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_rows_of_several_outputs_are_objects() -> None:
    outputs = {"label": np.array([b"a", b"b"], object), "score": np.array([[0.5], [1.0]], np.float32)}
    text = predictions_body(outputs).decode()
    row = '        {\n            "label": "%s",\n            "score": [%s]\n        }'
    assert text == '{\n    "predictions": [\n' + row % ("a", "0.5") + ",\n" + row % ("b", "1.0") + "\n    ]\n}"


def test_columns_of_several_outputs_are_an_object() -> None:
    text = outputs_body({"n": np.array([1], np.int64), "ok": np.array([True])}).decode()
    members = '"n": [\n            1\n        ],\n        "ok": [\n            true\n        ]'
    assert text == '{\n    "outputs": {\n        ' + members + "\n    }\n}"


def test_outputs_named_bytes_are_base64_and_others_are_text() -> None:
    body = predictions_body({"a_bytes": np.array([b"\xff\x00"], object), "b": np.array(["é".encode()], object)})
    assert json.loads(body) == {"predictions": [{"a_bytes": {"b64": "/wA="}, "b": "é"}]}


def test_rows_need_one_batch_size() -> None:
    with pytest.raises(StatusError, match="Tensor name: b has inconsistent batch size: 1 expecting: 2"):
        predictions_body({"a": np.zeros(2), "b": np.zeros(1)})
    with pytest.raises(StatusError, match="Tensor name: a has no shape information "):
        predictions_body({"a": np.array(1.0)})


def test_an_error_is_an_object_with_one_member() -> None:
    assert error_body('a "b"\n') == b'{\n    "error": "a \\"b\\"\\n"\n}'


def test_a_long_value_is_cut_in_an_error() -> None:
    text = debug_text(list(range(1000)))
    assert text.startswith("[0, 1, 2, ")
    assert 256 <= len(text) < 270


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        (tf.int32, [1, -2], np.array([1, -2], np.int32)),
        (tf.uint8, [255, 256], np.array([255, 0], np.uint8)),
        (tf.int64, [2**63 - 1, 0], np.array([2**63 - 1, 0])),
        (tf.uint64, [2**64 - 1, 0], np.array([2**64 - 1, 0], np.uint64)),
        (tf.float32, [1, 0.1], np.array([1, 0.1], np.float32)),
        (tf.float64, [1, 0.1], np.array([1, 0.1])),
        (tf.bool, [True, False], np.array([True, False])),
        (tf.string, ["é", {"b64": "/wA="}], np.array(["é".encode(), b"\xff\x00"], object)),
    ],
)
def test_values_of_every_type(dtype: Any, given: list[object], expected: Any) -> None:
    arrays, rows = parse_inputs({"instances": given}, infos(x=dtype))
    assert rows
    assert arrays["x"].dtype == expected.dtype
    assert arrays["x"].tolist() == expected.tolist()


def test_rows_of_several_inputs_are_objects() -> None:
    instances = [{"a": [1, 2], "b": "x"}, {"a": [3, 4], "b": "y"}]
    arrays, _ = parse_inputs({"instances": instances}, infos(a=tf.int64, b=tf.string))
    assert arrays["a"].tolist() == [[1, 2], [3, 4]]
    assert arrays["b"].tolist() == [b"x", b"y"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"instances": [1]}, "instances is a plain list, but expecting list of objects"),
        ({"inputs": [1]}, "inputs is a plain value/list, but expecting an object"),
        ({"instances": [{"a": 1}]}, "keys must be equal to: a,b"),
        ({"instances": [{"a": 1, "b": "x"}, 2]}, "Expecting object but got list at item 1 of input list"),
        ({"inputs": {"a": 1}}, "Missing named input: b in 'inputs' object."),
        ({"inputs": {"a": 1, "b": {"b64": "?"}}}, "Unable to base64 decode"),
        ({"inputs": {"a": 1, "b": {"c": "?"}}}, "not formatted correctly for base64 data"),
        ({"inputs": {"a": {"b64": "AA=="}, "b": "x"}}, "is not of expected type: int64"),
        ({"inputs": {"a": 2**63, "b": "x"}}, "is not of expected type: int64"),
        ({"inputs": {"a": [1, [2]], "b": "x"}}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": {"a": [[1], 2], "b": "x"}}, "found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"inputs": {"a": None, "b": "x"}}, "JSON Value: null Type: Null is not of expected type: int64"),
    ],
)
def test_inputs_that_do_not_fit(document: dict[str, object], words: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_inputs(document, infos(a=tf.int64, b=tf.string))
    assert words in caught.value.message


def test_what_follows_the_document_is_not_looked_at() -> None:
    assert parse_object(b'\xef\xbb\xbf {"a": 1} and so on') == {"a": 1}


def test_bytes_that_are_not_utf8_pass_through_a_string() -> None:
    arrays, _ = parse_inputs(parse_object(b'{"instances": ["\xff"]}'), infos(x=tf.string))
    assert arrays["x"].tolist() == [b"\xff"]
    assert b'["\xff"' in predictions_body({"x": arrays["x"]})


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(StatusError, match="The surrogate pair in string is invalid"):
        parse_inputs(parse_object(b'{"instances": ["\\ud800"]}'), infos(x=tf.string))


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(body: bytes) -> None:
    try:
        document = parse_object(body)
    except StatusError as error:
        status = error.http_status
    else:
        status = 200 if isinstance(document, dict) else 0
    assert status in (200, 400)

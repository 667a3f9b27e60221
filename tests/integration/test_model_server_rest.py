"""The model server over HTTP: TensorFlow Serving's JSON and errors."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
import requests

from tests.support.model_server import ServerHandle, running_model_server
from tests.support.model_server_models import save_mixed, save_scorer

CONFIG = """
model_config_list {{
  config {{ name: "sentiment_classifier" base_path: "{base}/scorer" model_platform: "tensorflow" }}
  config {{ name: "mixed" base_path: "{base}/mixed" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    base = tmp_path_factory.mktemp("models")
    save_scorer(base / "scorer", 1700000000)
    save_mixed(base / "mixed", 1)
    (base / "config").write_text(CONFIG.format(base=base))
    with running_model_server(None, config_file=base / "config") as handle:
        yield handle


@pytest.fixture(scope="module")
def url(server: ServerHandle) -> str:
    return f"{server.rest_url}/v1/models/sentiment_classifier"


@pytest.fixture(scope="module")
def mixed_url(server: ServerHandle) -> str:
    return f"{server.rest_url}/v1/models/mixed"


def post(url: str, body: object) -> requests.Response:
    return requests.post(url, data=body if isinstance(body, (str, bytes)) else json.dumps(body), timeout=60)


def test_rows_are_laid_out_as_tensorflow_serving_does(mixed_url: str) -> None:
    reply = post(f"{mixed_url}:predict", {"signature_name": "raw", "instances": ["a", "bc"]})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.text == '{\n    "predictions": [1, 2\n    ]\n}'


def test_columns_are_laid_out_as_tensorflow_serving_does(mixed_url: str) -> None:
    reply = post(f"{mixed_url}:predict", {"signature_name": "raw", "inputs": {"words": ["a", "bc"]}})
    assert reply.text == '{\n    "outputs": [\n        1,\n        2\n    ]\n}'
    assert post(f"{mixed_url}:predict", {"signature_name": "raw", "inputs": ["a", "bc"]}).text == reply.text


def test_a_column_may_be_a_scalar(mixed_url: str) -> None:
    reply = post(f"{mixed_url}:predict", {"signature_name": "scalar", "inputs": 0.1})
    assert reply.json() == {"outputs": pytest.approx(0.2)}


def test_several_outputs_need_a_json_type_each(mixed_url: str) -> None:
    instance = {"words": "a", "numbers": [1, 2]}
    reply = post(f"{mixed_url}:predict", {"instances": [instance]})
    assert (reply.status_code, reply.json()) == (400, {"error": "Failed to write JSON value for tensor type: half"})


def test_the_version_may_be_named(url: str) -> None:
    body = {"instances": [[1, 2]]}
    assert post(f"{url}/versions/1700000000:predict", body).status_code == 200
    reply = post(f"{url}/versions/7:predict", body)
    words = "Servable not found for request: Specific(sentiment_classifier, 7)"
    assert (reply.status_code, reply.json()) == (404, {"error": words})


def test_status_is_laid_out_as_tensorflow_serving_does(url: str) -> None:
    expected = (
        '{\n "model_version_status": [\n  {\n   "version": "1700000000",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )
    for path in (url, f"{url}/versions/1700000000"):
        assert requests.get(path, timeout=60).text == expected


def test_metadata_gives_the_signatures(url: str) -> None:
    reply = requests.get(f"{url}/metadata", timeout=60)
    assert reply.text.startswith('{\n"model_spec":{\n "name": "sentiment_classifier"')
    tokens = reply.json()["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["tokens"]
    assert tokens["dtype"] == "DT_INT32"
    assert [dim["size"] for dim in tokens["tensor_shape"]["dim"]] == ["-1", "-1"]


ELEMENT = "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
BAD_BODIES = {
    "empty": (b"", "JSON Parse error: The document is empty"),
    "blank": (b"  ", "JSON Parse error: The document is empty. at offset: 2"),
    "cut": (b'{"instances": ', "JSON Parse error: Invalid value. at offset: 14"),
    "not an object": (b"[1, 2]", "JSON Value: [1, 2] Is not object"),
    "no instances": (b"{}", "Missing 'inputs' or 'instances' key"),
    "instances and inputs": (
        b'{"instances": [[1]], "inputs": [[1]]}',
        (
            'JSON Value: {\n    "instances": [[1]],\n    "inputs": [[1]]\n} Not formatted correctly expecting only one of'
            " 'inputs' or 'instances' keys to exist "
        ),
    ),
    "instances not a list": (
        b'{"instances": 1}',
        "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
    ),
    "no rows": (b'{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    "ragged": (b'{"instances": [[1, 2, 3], [4]]}', ELEMENT + "Expecting tensor size: 3 but got: 1"),
    "another depth": (
        b'{"instances": [[1], 2]}',
        ELEMENT + "Expecting shape [1] but got: []",
    ),
    "ragged inside": (
        b'{"instances": [[1], [[1, 2], [3]]]}',
        ELEMENT + "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    "a float": (
        b'{"instances": [[1], [2.0]]}',
        ELEMENT + "JSON Value: 2.0 Type: Number is not of expected type: int32",
    ),
    "a string": (
        b'{"instances": [[1], ["\xc3\xa9"]]}',
        ELEMENT + 'JSON Value: "é" Type: String is not of expected type: int32',
    ),
    "true": (b'{"instances": [[1], [true]]}', ELEMENT + "JSON Value: true Type: True is not of expected type: int32"),
    "beyond int32": (
        b'{"instances": [[1], [2147483648]]}',
        ELEMENT + "JSON Value: 2147483648 Type: Number is not of expected type: int32",
    ),
    "an object": (
        b'{"instances": [[1], {"tokens": [1]}]}',
        "Expecting value/list but got object at item 1 of input list",
    ),
    "another name": (
        b'{"instances": [{"ids": [1]}]}',
        (
            "Failed to process element: 0 key: ids of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have"
            " named input: ids"
        ),
    ),
    "another column": (b'{"inputs": {"ids": [1]}}', "Missing named input: tokens in 'inputs' object."),
    "unknown signature": (
        b'{"signature_name": "x", "instances": [[1]]}',
        'Serving signature name: "x" not found in signature def',
    ),
    "signature not a name": (
        b'{"signature_name": 1, "instances": [[1]]}',
        (
            'JSON Value: {\n    "signature_name": 1,\n    "instances": [[1]]\n} not formatted correctly.'
            " 'signature_name' key must be a string value."
        ),
    ),
}


@pytest.mark.parametrize(("body", "words"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_wrong_body_is_refused_as_tensorflow_serving_does(url: str, body: bytes, words: str) -> None:
    reply = post(f"{url}:predict", body)
    assert (reply.status_code, reply.json()) == (400, {"error": words})
    assert reply.text.startswith('{\n    "error": "')


@pytest.mark.parametrize("depth", [100, 980, 100_000])
def test_deep_nesting_is_refused_and_ends_nothing(url: str, depth: int) -> None:
    body = b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"
    assert post(f"{url}:predict", body).status_code == 400
    assert post(f"{url}:predict", {"instances": [[1]]}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/v1/models/x:predict", 404, "Servable not found for request: Latest(x)"),
        ("POST", "/v1/models/mixed:predicted", 400, "Malformed request: POST /v1/models/mixed:predicted"),
        ("POST", "/v1/models/mixed", 400, "Malformed request: POST /v1/models/mixed"),
        ("PUT", "/v1/models/mixed:predict", 400, "Malformed request: PUT /v1/models/mixed:predict"),
        ("POST", "/v1/models/mixed:classify", 501, "classify is not served here: TensorFlow Serving has it."),
        ("POST", "/v1/models/mixed/labels/a%20b:predict", 400, "Unrecognized servable version label: a b"),
        ("GET", "/v1/models/x", 404, "Could not find any versions of model x"),
        ("GET", "/v1/models/mixed/versions/5", 404, "Could not find version 5 of model mixed"),
        ("GET", f"/v1/models/mixed/versions/{2**63}", 400, f"Failed to convert version: {2**63} to numeric."),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", "/", 404, "Not found: /"),
    ],
)
def test_a_wrong_path_is_refused(server: ServerHandle, method: str, path: str, status: int, words: str) -> None:
    reply = requests.request(method, server.rest_url + path, data='{"instances": [1]}', timeout=60)
    assert (reply.status_code, reply.json()) == (status, {"error": words})


def test_a_connection_serves_many_requests(server: ServerHandle) -> None:
    host, port = server.rest_url.removeprefix("http://").split(":")
    body = b'{"signature_name": "raw", "instances": ["abc"]}'
    head = f"POST /v1/models/mixed:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall((head + body) * 3)
        received = b""
        while received.count(b"\n}") < 3:
            received += connection.recv(65536)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(b'"predictions": [3\n    ]') == 3


def test_a_body_without_a_length_is_refused(url: str) -> None:
    reply = requests.post(f"{url}:predict", data=iter([b'{"instances": [[1]]}']), timeout=60)
    assert (reply.status_code, reply.json()) == (411, {"error": "Send the body with a Content-Length."})

"""The schemas of event types: what they let through, what they say, and that they read nothing else."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookrelay.model import Refused, Submission
from hookrelay.rules.schema import checked, compile_schema

PAYMENT = {
    "type": "object",
    "properties": {
        "amount": {"type": "integer", "minimum": 1},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
    },
    "required": ["amount"],
    "$defs": {"item": {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}},
}


def refusal(data: bytes, schema: Any = PAYMENT, type: str = "payment.made") -> Refused | None:
    try:
        checked(Submission(type, data), {"payment.made": compile_schema(schema)})
    except Refused as refused:
        return refused
    return None


@pytest.mark.parametrize("data", [b'{"amount": 5}', b'{"amount":1,"items":[{"price":1.5}],"more":null}'])
def test_what_the_schema_allows_passes(data: bytes):
    assert refusal(data) is None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"null", "data"),
        (b"{}", "data"),
        (b'{"amount":"5"}', "data.amount"),
        (b'{"amount":0}', "data.amount"),
        (b'{"amount":1,"items":[{"price":1},{"price":"2"}]}', "data.items.1.price"),
        (b'{"amount":1,"items":[{}]}', "data.items.0"),
    ],
)
def test_a_violation_names_the_path(data: bytes, field: str):
    refused = refusal(data)
    assert refused is not None
    assert (refused.code, refused.field) == ("invalid_event", field)
    assert refused.detail.startswith(f"{field} breaks the schema of payment.made: ")


def test_another_type_is_not_held_against_it():
    assert refusal(b"null", type="payment.failed") is None


def test_a_long_value_is_not_repeated_whole():
    refused = refusal(b'{"amount":"' + b"x" * 100_000 + b'"}')
    assert refused is not None
    assert len(refused.detail) < 300


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e999", b"-1e-999", b"0.1" + b"0" * 5000])
def test_no_number_does_harm(number: bytes):
    refused = refusal(b'{"amount":' + number + b"}")
    assert refused is None or refused.code == "invalid_event"


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"pattern": "("}, {"$ref": "#/$defs/missing"}, {"minimum": "1"}, {"required": "a"}]
)
def test_what_is_no_schema_is_said_so(schema: Any):
    with pytest.raises(ValueError, match="is no JSON Schema that can be used: "):
        compile_schema(schema)


def test_true_and_false_are_schemas():
    assert refusal(b"1", schema=True) is None
    assert refusal(b"1", schema=False) is not None


@pytest.mark.parametrize(
    "draft", ["http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#"]
)
def test_an_older_draft_is_obeyed(draft: str):
    integer = {"n": {"type": "integer"}}
    schema = {"$schema": draft, "definitions": integer, "properties": {"a": {"$ref": "#/definitions/n"}}}
    assert refusal(b'{"a":1}', schema) is None
    assert refusal(b'{"a":"x"}', schema) is not None


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and what it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


def test_a_reference_to_elsewhere_is_refused_and_never_followed(asked: tuple[str, list[str]], tmp_path: Path):
    place, paths = asked
    file = tmp_path / "other.json"
    file.write_text('{"type": "integer"}')
    for reference in (f"{place}/other.json", file.as_uri(), "other.json", "//127.0.0.1/x"):
        with pytest.raises(ValueError, match="is no JSON Schema that can be used"):
            compile_schema({"properties": {"a": {"$ref": reference}}})
    assert paths == []

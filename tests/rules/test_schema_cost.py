"""What schemas cost: those that refer to themselves are bounded for every event, all others need no count."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import Refused, Submission
from hookrelay.rules.schema import checked, compile_schema
from hookrelay.rules.schema_cost import AT_ONE_PLACE, MOST, is_affordable, plan

NODE: dict[str, Any] = {"$ref": "#/$defs/n"}
TREE = {
    "$defs": {"n": {"type": "object", "properties": {"l": NODE, "r": NODE, "v": {"type": "integer"}}}},
    "$ref": "#/$defs/n",
}
COMMENTS = {"type": "object", "properties": {"text": {"type": "string"}, "answers": {"items": {"$ref": "#"}}}}
TWICE = {
    "$defs": {
        "n": {
            "anyOf": [
                {"type": "array", "items": NODE},
                {"type": "array", "items": NODE},
                {"type": "string"},
            ]
        }
    },
    "$ref": "#/$defs/n",
}


def nested(depth: int, value: Any = 1) -> Any:
    return [nested(depth - 1, value)] if depth else value


def tree(depth: int) -> Any:
    return {"l": tree(depth - 1), "r": tree(depth - 1), "v": 1} if depth else {"v": 1}


def doubling(steps: int) -> dict[str, Any]:
    """No part refers to itself, and yet each has the next looked at twice."""
    parts: dict[str, Any] = {f"d{step}": {"anyOf": [{"$ref": f"#/$defs/d{step + 1}"}] * 2} for step in range(steps)}
    return {"$defs": {**parts, f"d{steps}": {"type": "string"}}, "$ref": "#/$defs/d0"}


EXPLOSIVE = [
    pytest.param(TWICE, nested(60), id="one part in two ways"),
    pytest.param(
        {"$dynamicAnchor": "n", "anyOf": [{"items": {"$dynamicRef": "#n"}}, {"items": {"$dynamicRef": "#n"}}]},
        nested(60),
        id="by a dynamic reference",
    ),
    pytest.param(
        {"$anchor": "n", "oneOf": [{"items": {"$ref": "#n"}}, {"contains": {"$ref": "#n"}}]},
        nested(60),
        id="by an anchor",
    ),
    pytest.param(
        {"$id": "https://x.example/s", "not": {"items": {"$ref": "s"}}, "if": {"items": {"$ref": "/s"}}},
        nested(60),
        id="by the schema's id",
    ),
    pytest.param(
        {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "allOf": [{"items": {"$recursiveRef": "#"}}, {"items": {"$recursiveRef": "#"}}],
            "type": ["array", "string"],
        },
        nested(60),
        id="by a recursive reference",
    ),
    pytest.param(
        {"properties": {"a": {"$ref": "#"}}, "patternProperties": {"^a": {"$ref": "#"}}, "type": "object"},
        {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}}}}}}},
        id="by a name and a pattern",
    ),
    pytest.param(doubling(40), 1, id="without referring to itself"),
]


@pytest.mark.parametrize(("schema", "data"), EXPLOSIVE)
def test_what_would_take_for_ever_is_refused_at_once(schema, data):
    schemas = {"a": compile_schema(schema)}
    began = time.thread_time()
    with pytest.raises(Refused) as caught:
        checked(Submission("a", msgspec.json.encode(data)), schemas)
    assert time.thread_time() - began < 5  # minutes, and years, before
    assert (caught.value.code, caught.value.field) == ("invalid_event", "data")
    assert "would take too long" in caught.value.detail


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (TREE, tree(9)),
        (COMMENTS, {"text": "a", "answers": [{"text": "b", "answers": [{"text": "c"}] * 30}] * 30}),
        (TWICE, [["a"], "b"]),
        (doubling(10), "a"),
    ],
)
def test_what_refers_to_itself_and_is_small_is_held_against_its_schema(schema, data):
    checked(Submission("a", msgspec.json.encode(data)), {"a": compile_schema(schema)})


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"properties": {f"p{n}": {"type": "string", "minLength": 1} for n in range(AT_ONE_PLACE * 2)}},
        {"prefixItems": [{"type": "string"}] * AT_ONE_PLACE, "items": {"anyOf": [{"type": "null"}] * 100}},
        {"$defs": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a"}, "y": {"$ref": "#/$defs/a"}}},
    ],
)
def test_a_schema_that_does_not_refer_to_itself_needs_no_count(schema):
    assert plan(schema) is None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#"}, "refers to itself"),
        ({"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "refers"),
        ({"properties": {"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}}, "cannot be followed"),
    ],
)
def test_what_has_no_end_or_leads_elsewhere_is_refused_when_it_is_loaded(schema, said):
    with pytest.raises(ValueError, match=said):
        compile_schema(schema)


@pytest.mark.parametrize("pattern", [r"^(?=a)a$", r"(a)\1", r"(?<!x)y"])
def test_patterns_whose_time_has_no_bound_are_refused_when_they_are_loaded(pattern):
    for schema in ({"pattern": pattern}, {"patternProperties": {pattern: {}}}):
        with pytest.raises(ValueError, match="proportion to the text's length"):
            compile_schema(schema)


def test_a_pattern_that_others_go_back_and_forth_in_is_quick():
    schemas = {"a": compile_schema({"items": {"pattern": "^(a+)+$"}})}
    began = time.thread_time()
    with pytest.raises(Refused):
        checked(Submission("a", b'["' + b"a" * 250_000 + b'!"]'), schemas)
    assert time.thread_time() - began < 5


# --- the count itself ---------------------------------------------------------------------------------------------

LEAVES = st.sampled_from([{"type": "string"}, {"type": "array"}, True, {"$ref": "#"}])
INNER = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("ab"), inner)}),
        st.fixed_dictionaries({"additionalProperties": inner, "properties": st.just({"a": {"type": "null"}})}),
    ),
    max_leaves=5,
)
DATA = st.recursive(
    st.just(1), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)


def looks(schema: Any, data: Any, root: Any, depth: int = 1) -> int:
    """Every look of a subschema at a value, one after the other."""
    if not isinstance(schema, dict):
        return 0
    inner = [root] if "$ref" in schema else schema.get("anyOf", [])
    total = depth + sum(looks(each, data, root, depth) for each in inner)
    if isinstance(data, list) and "items" in schema:
        total += sum(looks(schema["items"], each, root, depth + 1) for each in data)
    if isinstance(data, dict):
        named, other = schema.get("properties", {}), schema.get("additionalProperties")
        total += sum(looks(named.get(name, other), each, root, depth + 1) for name, each in data.items())
    return total


@given(INNER, DATA)
def test_what_is_counted_is_never_less_than_what_is_done(inner, data):
    schema = {"properties": {"a": inner}, "items": inner}
    try:
        nodes = plan(schema)
    except ValueError:
        return
    if nodes is not None and is_affordable(nodes, data):
        assert looks(schema, data, schema) <= MOST
    for most in (10, 100):
        done = looks(schema, data, schema)
        if nodes is not None and done > most:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("hookrelay.rules.schema_cost.MOST", most)
                assert not is_affordable(nodes, data)

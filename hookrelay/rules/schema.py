"""Is an event's data what the JSON Schema of its type says? Drafts by `$schema`, 2020-12 where it says nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct

from hookrelay.model import Refused, Submission
from hookrelay.rules import schema_cost

if TYPE_CHECKING:
    import jsonschema_rs


class Validator(Protocol):
    """A compiled schema."""

    def iter_errors(self, instance: Any) -> "Iterator[jsonschema_rs.ValidationError]":
        """Every violation, none where all is well."""


class Schema(Struct, frozen=True):
    """A schema, ready for use."""

    validator: Validator
    costly: Sequence[schema_cost.Node] | None = None
    """Its graph, where what it costs depends on the data in more than length (`rules.schema_cost`)."""


def compile_schema(schema: Any) -> Schema:
    """The schema, ready for use: 1 to 5 µs an event of common size.

    ValueError says what is wrong with it. Nothing outside it is ever read: no file, no network. Patterns take time in
    proportion to what they meet (THREATS §3): what needs more, as looking ahead does, is no pattern here.
    """
    import jsonschema_rs  # 4 MiB, for those who have schemas

    linear = jsonschema_rs.RegexOptions()
    try:
        try:
            validator: Validator = jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=linear)
        except ValueError as error:
            if not _has_known_patterns(schema):
                raise
            raise ValueError(
                f"{_first_line(error)} that takes a time in proportion to the text's length: write it without looking "
                "ahead or behind, without back references, and shorter where it is very long"
            ) from None
        return Schema(validator, schema_cost.plan(schema))
    except ValueError as error:
        raise ValueError(f"is no JSON Schema that can be used: {_first_line(error)}") from None
    except RecursionError:
        raise ValueError("is no JSON Schema that can be used: it is nested too deep") from None


def _has_known_patterns(schema: Any) -> bool:
    """Whether it would be a schema if patterns took what time they like."""
    import jsonschema_rs

    try:
        jsonschema_rs.validator_for(schema, retriever=_refuse)
    except ValueError:
        return False
    return True


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} lies outside the schema: put it into $defs of this one")


def _first_line(error: ValueError) -> str:
    # of a reference that leads outside only our own words are of use
    said = str(error).partition("\n")[0].partition("retrieving it failed: ValueError: ")
    return (said[2] or said[0])[:200]


def checked(submission: Submission, schemas: Mapping[str, Schema]) -> None:
    """Refused("invalid_event") with the path at which the data breaks the schema of its type, where it has one."""
    schema = schemas.get(submission.type)
    if schema is None:
        return
    try:
        data = msgspec.json.decode(submission.data)
        if schema.costly is not None and not schema_cost.is_affordable(schema.costly, data):
            raise Refused(
                "invalid_event",
                f"data is so deep, or has so many parts, that the schema of {submission.type}, which refers to itself, "
                "would take too long: send less of it in one event",
                "data",
            )
        violation = next(iter(schema.validator.iter_errors(data)), None)
    except (msgspec.DecodeError, ValueError) as error:
        # JSON all the same: a number beyond what any reader makes a number of
        raise Refused("invalid_event", f"data cannot be held against its schema: {error}", "data") from None
    if violation is not None:
        path = ".".join(("data", *map(str, violation.instance_path)))[:200]
        said = violation.message if len(violation.message) <= 200 else f"{violation.message[:199]}…"
        raise Refused("invalid_event", f"{path} breaks the schema of {submission.type}: {said}", path)

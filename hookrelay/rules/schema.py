"""Is an event's data what the JSON Schema of its type says? Drafts by `$schema`, 2020-12 where it says nothing."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from hookrelay.model import Refused, Submission

if TYPE_CHECKING:
    import jsonschema_rs


class Validator(Protocol):
    """A compiled schema."""

    def iter_errors(self, instance: Any) -> "Iterator[jsonschema_rs.ValidationError]":
        """Every violation, none where all is well."""


def compile_schema(schema: Any) -> Validator:
    """The schema, ready for use: 1 to 5 µs an event of common size.

    ValueError says what is wrong with it. Nothing outside it is ever read: no file, no network.
    """
    import jsonschema_rs  # 4 MiB, for those who have schemas

    try:
        validator: Validator = jsonschema_rs.validator_for(schema, retriever=_refuse)
    except ValueError as error:
        raise ValueError(f"is no JSON Schema that can be used: {_first_line(error)}") from None
    return validator


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} lies outside the schema: put it into $defs of this one")


def _first_line(error: ValueError) -> str:
    # of a reference that leads outside only our own words are of use
    said = str(error).partition("\n")[0].partition("retrieving it failed: ValueError: ")
    return (said[2] or said[0])[:200]


def checked(submission: Submission, validators: Mapping[str, Validator]) -> None:
    """Refused("invalid_event") with the path at which the data breaks the schema of its type, where it has one."""
    validator = validators.get(submission.type)
    if validator is None:
        return
    try:
        violation = next(iter(validator.iter_errors(msgspec.json.decode(submission.data))), None)
    except (msgspec.DecodeError, ValueError) as error:
        # JSON all the same: a number beyond what any reader makes a number of
        raise Refused("invalid_event", f"data cannot be held against its schema: {error}", "data") from None
    if violation is not None:
        path = ".".join(("data", *map(str, violation.instance_path)))[:200]
        said = violation.message if len(violation.message) <= 200 else f"{violation.message[:199]}…"
        raise Refused("invalid_event", f"{path} breaks the schema of {submission.type}: {said}", path)

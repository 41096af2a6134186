"""Is an event's data what its type's JSON Schema says?"""

from collections.abc import Mapping
from typing import Any, Protocol

import jsonschema_rs
import msgspec

from hookrelay.model import Refused, Submission
from hookrelay.rules.wording import shown


class Validator(Protocol):
    """A compiled schema."""

    def iter_errors(self, instance: object) -> Any:
        """Every violation."""


def _refuse(uri: str) -> object:
    raise ValueError(f"{uri} is outside the schema: put what it holds into $defs")


def compile_schema(schema: Any) -> Validator:
    """The schema, ready for use. ValueError says what is wrong; nothing outside it is ever read."""
    try:
        validator: Validator = jsonschema_rs.validator_for(schema, retriever=_refuse)
    except Exception as error:
        raise ValueError(f"is not a JSON Schema: {shown(str(error))}") from None
    return validator


def checked(submission: Submission, validators: Mapping[str, Validator]) -> None:
    """Refused("invalid_event") naming the path where the data breaks its type's schema."""
    validator = validators.get(submission.type)
    if validator is None:
        return
    for error in validator.iter_errors(msgspec.json.decode(submission.data)):
        path = ".".join(map(str, ("data", *error.instance_path)))
        raise Refused("invalid_event", f"{path} breaks the schema of {submission.type}: {error.message[:200]}", path)

"""`docs/api-reference.md`: every call and every field, from the OpenAPI document that the daemon serves."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from hookrelay.web.api.openapi import document
from hookrelay.web.docs import METHODS, about, kind, resolved
from hookrelay.web.problems import TITLES

_HEAD = """# API reference

Every call and every field, written by `make references` from the OpenAPI document that a daemon serves as
`/openapi.json` and shows as `/docs`. [api.md](api.md) shows the calls at work, by task, and tells what
keys, pages and problems are."""


def api_reference() -> str:
    """The page."""
    return "\n".join(_page(document())) + "\n"


def _page(told: Mapping[str, Any]) -> Iterator[str]:
    operations = [
        (path, method, methods[method])
        for path, methods in told["paths"].items()
        for method in METHODS
        if method in methods
    ]
    tags = list(dict.fromkeys(operation["tags"][0] for _, _, operation in operations))
    yield _HEAD
    yield from ("", "| call | |", "|---|---|")
    for tag in tags:
        for path, method, operation in operations:
            if operation["tags"][0] == tag:
                summary = operation["summary"]
                yield f"| `{method.upper()} {path}` | [{summary}](#{_anchor(summary)}) |"
    for tag in tags:
        yield from ("", f"## {tag}")
        for path, method, operation in operations:
            if operation["tags"][0] == tag:
                yield from _operation(told, path, method, operation)
    yield from _problems()
    yield from ("", "## Schemas")
    for name, schema in told["components"]["schemas"].items():
        yield from _schema(told, name, schema)


def _operation(told: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    needs_no_key = ["Needs no key."] if operation.get("security") == [] else []
    said = " ".join([*([operation["description"]] if "description" in operation else []), *needs_no_key])
    yield from ("", f"### {operation['summary']}", "", f"`{method.upper()} {path}`")
    if said:
        yield from ("", said)
    if operation["parameters"]:
        yield from ("", "| parameter | where | | |", "|---|---|---|---|")
        for each in operation["parameters"]:
            one = resolved(told, each)
            text = _cell(one.get("description", ""))
            yield f"| `{one['name']}` | {one['in']} | {_kind(told, one['schema'])} | {text} |"
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        parts = [f"{_kind(told, each['schema'])} as `{media}`" for media, each in content.items()]
        yield from ("", f"Body: {', '.join(parts)}.")
    yield from ("", f"Answers: {', '.join(_answers(told, operation['responses']))}.")


def _answers(told: Mapping[str, Any], responses: Mapping[str, Any]) -> Iterator[str]:
    problems = []
    for status, answer in responses.items():
        kinds = [_kind(told, each.get("schema", {})) for each in answer.get("content", {}).values()]
        if kinds == ["[Problem](#problem)"]:
            problems.append(status)
        else:
            said = "" if answer["description"] == "Done." else f" ({answer['description'].rstrip('.')})"
            yield f"**{status}**{said}{''.join(f' {each}' for each in kinds if each != 'any')}"
    if problems:
        yield f"or a [Problem](#problem) with {', '.join(problems)}"


def _problems() -> Iterator[str]:
    yield from ("", "## Problems", "", "| status | `code` | |", "|---|---|---|")
    for code, (status, title) in sorted(TITLES.items(), key=lambda row: row[1]):
        yield f"| {status} | `{code}` | {title} |"


def _schema(told: Mapping[str, Any], name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"### {name}")
    if "description" in schema:
        yield from ("", inspect.cleandoc(schema["description"]))
    yield from ("", "| field | | |", "|---|---|---|")
    needed = schema.get("required", ())
    for field, each in schema.get("properties", {}).items():
        mark = " (required)" if name in _BODIES and field in needed else ""
        yield f"| `{field}`{mark} | {_kind(told, each)} | {_cell(about(told, each))} |"


_BODIES = ("WebhookFields", "KeyWish", "LinkWish", "ReplayWish", "Submission")
"""What callers send: there it matters which fields must be said."""


def _kind(told: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema's type in a few words, those that have a table of their own as links to it."""
    names = told["components"]["schemas"]
    words = kind(told, schema).split(" ")
    return " ".join(f"[{word}](#{word.lower()})" if word in names else _cell(word) for word in words)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    kept = [letter for letter in heading.lower() if letter.isalnum() or letter in " -_"]
    return "".join(kept).replace(" ", "-")

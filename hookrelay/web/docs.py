"""The API's documentation as one page, made on the server: no script, and nothing from elsewhere."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")
DEEPEST = 4
"""Levels of schemas within schemas that a table shows."""


def render(document: Mapping[str, Any]) -> str:
    """An OpenAPI 3.1 document as HTML. All text in it is escaped."""
    info = document["info"]
    operations = list(_operations(document))
    tags = list(dict.fromkeys(tag for _, _, operation in operations for tag in operation.get("tags", ["API"])[:1]))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} API</title>",
        '<link rel="stylesheet" href="/docs/style.css"></head><body>',
        '<a class="skip" href="#content">Skip to the operations</a>',
        f"<header><h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
        f"<p>{_text(info.get('description', ''))}</p>",
        "<p>Calls over TCP carry a key: <code>Authorization: Bearer KEY</code>. The document for machines is at ",
        '<a href="/openapi.json">/openapi.json</a>.</p></header>',
        *_contents(operations, tags),
        '<main id="content">',
    ]
    for tag in tags:
        parts.append(f'<section aria-labelledby="{_anchor(tag)}"><h2 id="{_anchor(tag)}">{escape(tag)}</h2>')
        for path, method, operation in operations:
            if operation.get("tags", ["API"])[0] == tag:
                parts += _operation(document, path, method, operation)
        parts.append("</section>")
    parts += _schemas(document)
    parts.append("</main></body></html>")
    return "\n".join(parts)


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def _contents(operations: Sequence[tuple[str, str, Mapping[str, Any]]], tags: Sequence[str]) -> Iterator[str]:
    yield '<nav aria-label="Contents">'
    for tag in tags:
        yield f'<h2><a href="#{_anchor(tag)}">{escape(tag)}</a></h2><ul>'
        for _, method, operation in operations:
            if operation.get("tags", ["API"])[0] == tag:
                name = escape(operation.get("summary", operation["operationId"]))
                yield f'<li><a href="#{_anchor(operation["operationId"])}">{name}</a> <i>{method.upper()}</i></li>'
        yield "</ul>"
    yield '<h2><a href="#schemas">Schemas</a></h2></nav>'


# --- one operation ----------------------------------------------------------------------------------------------


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    anchor = _anchor(operation["operationId"])
    yield f'<article aria-labelledby="{anchor}"><h3 id="{anchor}">{escape(operation.get("summary", ""))}</h3>'
    yield f'<p class="call"><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code></p>'
    if "description" in operation:
        yield f"<p>{_text(operation['description'])}</p>"
    if operation.get("security") == []:
        yield "<p>Needs no key.</p>"
    parameters = [resolved(document, parameter) for parameter in operation.get("parameters", ())]
    if parameters:
        rows = [
            (parameter["name"], kind(document, parameter["schema"]), parameter["in"], parameter.get("description", ""))
            for parameter in parameters
        ]
        yield from _table("Parameters", ("Name", "Type", "Where", "What for"), rows)
    body = operation.get("requestBody")
    schema: Mapping[str, Any] = {}
    if body is not None:
        content = body["content"]
        schema = resolved(document, next(iter(content.values()))["schema"])
        yield f"<h4>Body</h4><p>{_text(schema.get('description', ''))} {escape(', '.join(content))}</p>"
        yield from _fields(document, schema, "Fields of the body")
    example = _example(document, schema) if body is not None else None
    yield f"<h4>Example</h4><pre><code>{escape(_curl(path, method, example))}</code></pre>"
    rows = [
        (status, answer["description"], ", ".join(_answer(document, answer)), "")
        for status, answer in operation["responses"].items()
    ]
    yield from _table("Answers", ("Status", "When", "What", ""), rows)
    yield "</article>"


def _curl(path: str, method: str, example: object) -> str:
    filled = path.replace("{id}", "ID")
    text = f"curl http://127.0.0.1:8787{filled} -H 'Authorization: Bearer KEY'"
    if method != "get":
        text = text.replace("curl ", f"curl -X {method.upper()} ", 1)
    if example is not None:
        body = json.dumps(example).replace("'", "'\\''")
        text += f" \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"
    return text


def _answer(document: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[str]:
    for type, content in answer.get("content", {}).items():
        yield f"{kind(document, content.get('schema', {}))} ({type})"


# --- schemas ----------------------------------------------------------------------------------------------------


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    yield '<section aria-labelledby="schemas"><h2 id="schemas">Schemas</h2>'
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        anchor = f"schema-{_anchor(name)}"
        yield f'<article aria-labelledby="{anchor}"><h3 id="{anchor}">{escape(name)}</h3>'
        yield f"<p>{_text(schema.get('description', ''))}</p>"
        yield from _fields(document, schema, f"Fields of {name}")
        yield "</article>"
    yield "</section>"


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any], caption: str) -> Iterator[str]:
    needed = schema.get("required", ())
    rows = [
        (name, kind(document, each), "yes" if name in needed else "", about(document, each))
        for name, each in schema.get("properties", {}).items()
    ]
    if rows:
        yield from _table(caption, ("Field", "Type", "Required", "What it is"), rows)


def about(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a schema says of itself, its examples and its default."""
    said = [schema["description"]] if "description" in schema else []
    if schema.get("examples"):
        said.append("Such as " + " or ".join(json.dumps(each) for each in schema["examples"]) + ".")
    if "default" in schema and schema["default"] not in (None, "", {}, []):
        said.append(f"Default {json.dumps(schema['default'])}.")
    return " ".join(said)


def kind(document: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> str:
    """A schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(kind(document, each, depth) for each in schema["anyOf"])
    type = schema.get("type", "any")
    if isinstance(type, list):
        return " | ".join(type)
    if type == "array" and depth < DEEPEST:
        return f"list of {kind(document, schema.get('items', {}), depth + 1)}"
    if type == "object" and "data" in schema.get("properties", {}) and depth < DEEPEST:
        return f"page of {kind(document, schema['properties']['data'].get('items', {}), depth + 1)}"
    return str(type)


def _example(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Whatever of a body is required, by its examples; the first field that has one where nothing is."""
    fields = schema.get("properties", {})
    examples = {name: each["examples"][0] for name, each in fields.items() if each.get("examples")}
    needed = {name: examples.get(name, "…") for name in schema.get("required", ())}
    if "role" in needed:
        needed["role"] = "manage"
    return needed or dict(list(examples.items())[:1])


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, or the one that it refers to."""
    if "$ref" not in schema:
        return schema
    found: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: Mapping[str, Any] = found
    return resolved


# --- words ------------------------------------------------------------------------------------------------------


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    columns = [index for index, name in enumerate(head) if name]
    yield f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">'
    yield f"<table><caption>{escape(caption)}</caption><thead><tr>"
    yield "".join(f'<th scope="col">{escape(head[index])}</th>' for index in columns) + "</tr></thead><tbody>"
    for row in rows:
        cells = [f'<th scope="row"><code>{escape(row[0])}</code></th>']
        cells += [f"<td>{_text(row[index])}</td>" for index in columns[1:]]
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _text(text: str) -> str:
    """Escaped, with `code` between backticks."""
    pieces = escape(text).split("`")
    if len(pieces) % 2 == 0:
        return escape(text)
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _anchor(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text).lower()

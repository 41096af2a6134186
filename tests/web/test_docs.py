"""The page that shows the API: whole, well-formed, and with nothing but text where text was given."""

from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from hookrelay.web.api.openapi import OPERATIONS, document
from hookrelay.web.app import ROUTES
from hookrelay.web.docs import render

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """What a page is made of. Fails where tags do not close in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(document()))


def test_every_operation_and_every_schema_is_on_the_page(page: Page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for operation in OPERATIONS:
        assert operation.name.lower() in ids
        assert operation.summary in page.words
        assert operation.path in page.words
    for name in document()["components"]["schemas"]:
        assert f"schema-{name.lower()}" in ids


def test_every_link_within_the_page_leads_somewhere(page: Page):
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        if tag == "a" and attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids


def test_nothing_runs_and_nothing_comes_from_elsewhere(page: Page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "style", "iframe", "img", "form")
        assert not any(name == "style" or name.startswith("on") for name in attributes)
        assert not any(str(attributes.get(name, "/")).startswith("http") for name in ("href", "src"))


def test_headings_go_down_one_level_at_a_time(page: Page):
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_hostile_text_shows_as_text():
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>`"
    hostile = {
        "openapi": "3.1.0",
        "info": {"title": evil, "version": evil, "description": evil},
        "paths": {
            f"/{evil}": {
                "post": {
                    "operationId": evil,
                    "tags": [evil],
                    "summary": evil,
                    "description": evil,
                    "parameters": [
                        {"name": evil, "in": "query", "description": evil, "schema": {"enum": [evil], "type": "string"}}
                    ],
                    "requestBody": {
                        "content": {
                            evil: {
                                "schema": {
                                    "description": evil,
                                    "properties": {evil: {"type": evil, "examples": [evil], "description": evil}},
                                    "required": [evil],
                                }
                            }
                        }
                    },
                    "responses": {evil: {"description": evil, "content": {evil: {"schema": {"type": evil}}}}},
                }
            }
        },
        "components": {"schemas": {evil: {"description": evil, "properties": {evil: {"type": evil}}}}},
    }
    page = Page(render(hostile))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_document_tells_of_every_route_and_of_nothing_else():
    told = {(operation.path, operation.method.upper()) for operation in OPERATIONS}
    served = {(path, method) for path, methods in ROUTES.items() for method in methods}
    assert told == served - {("/openapi.json", "GET"), ("/docs", "GET"), ("/docs/style.css", "GET")}


def test_every_reference_in_the_document_leads_to_a_schema():
    told = document()
    names = told["components"]["schemas"].keys()

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    assert {reference.rpartition("/")[2] for reference in references(told)} <= names

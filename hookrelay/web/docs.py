"""The API's documentation as a page."""

from collections.abc import Mapping
from typing import Any


def render(document: Mapping[str, Any]) -> str:
    """One HTML page."""
    return "<!doctype html><title>hookrelay</title>"

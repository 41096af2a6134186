"""Templates → HTML, and the files that pages need. All text is escaped, whoever wrote it."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from hookrelay.units import format_time
from hookrelay.web.dashboard.text import NOTHING, count, milliseconds, percent, size, visible

if TYPE_CHECKING:
    from jinja2 import Environment

FILES = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "htmx-LICENSE.txt": "text/plain; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def file(name: str) -> tuple[bytes, bytes, str]:
    """A static file: as it is, by gzip, and a text that changes with it."""
    content = (files("hookrelay.web.dashboard") / "static" / name).read_bytes()
    return content, gzip.compress(content, 9, mtime=0), hashlib.blake2b(content, digest_size=6).hexdigest()


def address(name: str) -> str:
    """Where a static file is: it may be kept for ever."""
    return f"/dashboard/static/{name}?{file(name)[2]}"


@cache
def environment() -> "Environment":
    """All templates. What they show goes through `visible`, and is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # takes 40 ms: after the start, if at all

    made = Environment(
        loader=PackageLoader("hookrelay.web.dashboard"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["static"] = address
    made.filters |= {"moment": moment, "percent": percent, "milliseconds": milliseconds, "count": count, "size": size}
    return made


def _shown(value: object) -> object:
    return visible(value) if type(value) is str else value


def render(template: str, **values: Any) -> str:
    """A template's text."""
    return environment().get_template(template).render(values)


def moment(value: int | str | None) -> Markup:
    """A time (unix milliseconds, or RFC 3339 in UTC): as such for the script, which writes it in the reader's zone."""
    if value is None:
        return Markup(NOTHING)  # noqa: S704 -- our own
    text = format_time(value) if isinstance(value, int) else value
    return Markup('<time datetime="{}" title="{}">{} UTC</time>').format(text, text, text[:19].replace("T", " "))

"""The documents as a whole: every link leads somewhere, every page is found, what is said of the code is so."""

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md", *sorted(ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()\s]*\))?)\)")


def prose(page: Path) -> str:
    """A page without its code, where nothing is a link and no line a heading."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def anchors(page: Path) -> set[str]:
    """What can stand behind # in a link to the page, as GitHub makes it of headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (name := anchor if number == 0 else f"{anchor}-{number}") in found:
            number += 1
        found.add(name)
    return found


def leads_somewhere(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True  # of other places nothing is known here
    place, _, anchor = link.partition("#")
    target = (page.parent / unquote(place)).resolve() if place else page
    if not (target.is_relative_to(ROOT) and target.exists()):
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert [link for link in LINK.findall(prose(page)) if not leads_somewhere(page, link)] == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    pages = [page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md"]
    assert [name for name in pages if f"({name})" not in index] == []
    decisions = (ROOT / "docs/decisions/README.md").read_text()
    assert [page.name for page in ROOT.glob("docs/decisions/0*.md") if f"({page.name})" not in decisions] == []


def test_every_file_that_a_page_names_is_there():
    for name in ("docs/inside.md", "docs/security.md"):
        text = (ROOT / name).read_text()
        paths = re.findall(r"`((?:hookrelay|tests)/[\w/.]*)`", text)
        assert len(paths) >= 1
        assert [path for path in paths if not (ROOT / path).exists()] == [], name


def test_the_floors_on_the_page_are_those_that_are_held():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = [floor for floor in contracts[0]["layers"] if not floor.startswith("(")]
    page = (ROOT / "docs/inside.md").read_text().partition("## Floors")[2].partition("```\n")[2].partition("```")[0]
    told = [re.split(r" {2,}", line)[0] for line in page.splitlines() if not line.startswith(" ")]
    assert [set(floor.split(" | ")) for floor in told] == [set(floor.split(" | ")) for floor in held]

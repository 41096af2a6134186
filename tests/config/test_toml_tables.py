"""The quick reader of files with many tables says what tomllib says, or nothing."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.config.toml_tables import read

PLAIN = """# webhooks of customers
[[webhook]]
name = "bookings"   # the first
url = "https://example.com/hooks?a=[1]#x"
events = ["booking.*", "payment.failed" ,]
description = "Größe 🐘 = #1"
max_in_flight = 16
ordered = true

  [[webhook]]  # the second
"""
"""The last header is indented: it is left to tomllib."""
FRAGMENTS = [
    "[[webhook]]\n", "[[webhook]]\r\n", "[[webhook]] # note\n", " [[webhook]]\n", "[[other]]\n", "[webhook]\n",
    "[webhook.headers]\n", "[[webhook.headers]]\n", "[other]\n", 'name = "a"\n', 'url = "b" # c\n', 'events = ["a"]\n',
    'events = [ "a" , "b", ]\n', "events = []\n", "events = [,]\n", "events = [\n", '"x",\n', "]\n", "n = 0\n", "n = 07\n",
    "n = 1_000\n", "n = -1\n", "n = 1.5\n", "n = 999999999999999999\n", "n = 9999999999999999999\n", "b = true\n",
    "b = True\n", "d = 2026-02-26\n", 't = """\n', '"""\n', "t = '''\n", "'''\n", "t = 'lit'\n", 'e = "\\u00e9"\n',
    'e = "\\"\n', 'm = { x = "y" }\n', "m = {\n", "}\n", 'a.b = "c"\n', '"q k" = "v"\n', "webhook = 1\n", "webhook.x = 1\n",
    "# note\n", "#\x00\n", "\n", "\r\n", "\r", "\t", 'c = "\x01"\n', 'c = "\t"\n', '= "v"\n', "k =\n", "k\n", '"', "\\",
]  # fmt: skip


def test_a_plain_file_is_read_without_tomllib(monkeypatch: pytest.MonkeyPatch):
    said = tomllib.loads(PLAIN)
    monkeypatch.setattr(tomllib, "loads", None)
    assert read(PLAIN[: PLAIN.index("  [[")], "webhook") == {"webhook": said["webhook"][:1]}
    assert len(said["webhook"]) == 2


def test_a_table_that_is_not_plain_costs_only_itself():
    text = PLAIN[: PLAIN.index("  [[")] + '[[webhook]]\nheaders = { x-source = "a" }\n[webhook.metadata]\nteam = 1\n'
    assert read(text, "webhook") == tomllib.loads(text)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
def test_what_is_read_is_what_tomllib_reads_and_nothing_is_taken_that_it_refuses(text: str):
    found = read(text, "webhook")
    if found is not None:
        said = tomllib.loads(text)
        assert found == said
        assert repr(found) == repr(said)  # true is not 1


@pytest.mark.parametrize("deep", ["[" * 5000, "a." * 5000 + "a = 1\n", "x = " + "{y = " * 5000])
def test_what_is_nested_too_deeply_is_left_to_those_who_tell_of_it(deep: str):
    assert read(f"[[webhook]]\n{deep}\n[[webhook]]\n", "webhook") is None

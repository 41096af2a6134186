"""The quick reader of files with many tables says what tomllib says, or nothing."""

import tomllib

import pytest
from hypothesis import example, given, settings
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
LINES = r"""[[webhook]]
[[webhook]] # note
name = "a"
url = "b" # c
events = ["a"]
texts = [ "a" , "b", ]
none = []
n = 0
m = 999999999999999999
flag = true
# note
""".splitlines()
ODD = r""" [[webhook]]
[[other]]
[webhook]
[webhook.headers]
[[webhook.headers]]
[other]
events = [,]
events = [
"x",
]
n = 07
n = 1_000
n = -1
n = 1.5
n = 9999999999999999999
b = True
d = 2026-02-26
long = '''
'''
t = 'lit'
e = "\u00e9"
e = "\"
m = { x = "y" }
m = {
}
a.b = "c"
"q k" = "v"
webhook = 1
webhook.x = 1
= "v"
k =
k
""".splitlines()
ENDS = ["\n", "\r\n", "\r", "\t\n", '"', "\\", "\x00\n", '"""\n', "#\x01\n"]
FRAGMENTS = st.one_of(
    st.sampled_from(LINES).map("{}\n".format),
    st.sampled_from(LINES).map("{}\n".format),
    st.builds(str.__add__, st.sampled_from(ODD), st.sampled_from(["\n", "\r\n"])),
    st.sampled_from(ENDS),
)


def test_a_plain_file_is_read_without_tomllib(monkeypatch: pytest.MonkeyPatch):
    said = tomllib.loads(PLAIN)
    monkeypatch.setattr(tomllib, "loads", None)
    assert read(PLAIN[: PLAIN.index("  [[")], "webhook") == {"webhook": said["webhook"][:1]}
    assert len(said["webhook"]) == 2


def test_a_table_that_is_not_plain_costs_only_itself():
    text = PLAIN[: PLAIN.index("  [[")] + '[[webhook]]\nheaders = { x-source = "a" }\n[webhook.metadata]\nteam = 1\n'
    assert read(text, "webhook") == tomllib.loads(text)


@settings(max_examples=400)
@given(st.lists(FRAGMENTS, max_size=8).map("".join))
@example("[[webhook]]\r\n\r\r\n")
@example("[[webhook]]\n[other]\n[[webhook]]\n")
@example("[[webhook]]\n [[webhook]]\n")
def test_what_is_read_is_what_tomllib_reads_and_nothing_is_taken_that_it_refuses(text: str):
    found = read(text, "webhook")
    if found is not None:
        said = tomllib.loads(text)
        assert found == said
        assert repr(found) == repr(said)  # true is not 1


@pytest.mark.parametrize(
    "line",
    ['x = ["a"{}', 'x = ["a",{}', "x = [{}", 'x = "a"{}!', "{}x", "x{}", "x ={}", "[[webhook]]{}x", 'x = ["a"{},,]'],
)
def test_long_runs_of_blanks_take_no_longer_than_others(line: str):
    """Tried in every way, these would take hours."""
    assert read(f"[[webhook]]\n{line.format(' ' * 1_000_000)}\n", "webhook") is None


@pytest.mark.parametrize("deep", ["[" * 5000, "a." * 5000 + "a = 1\n", "x = " + "{y = " * 5000])
def test_what_is_nested_too_deeply_is_left_to_those_who_tell_of_it(deep: str):
    assert read(f"[[webhook]]\n{deep}\n[[webhook]]\n", "webhook") is None

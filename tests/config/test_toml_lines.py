"""Lines of TOML keys: against texts that tomli_w writes, and against a text with every way of writing."""

import itertools
import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.config.toml_lines import MAX_DEPTH, Lines, line_of, refusal, too_deep

SHAPES = st.recursive(
    st.sampled_from(["number", "text", "lines", "tricky"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(), inner, max_size=4),
    max_leaves=25,
)
MARKS = ["k{}x", "k {}x", "k.{}x", 'k"{}x', "k{}xä#", "k\\{}x='["]


def filled(shape, numbers, places, path=()):
    """A value of this shape whose every key and scalar holds a number of its own; `places` gets path → number."""
    if isinstance(shape, dict):
        value = {}
        for number in itertools.islice(numbers, len(shape)):
            key = MARKS[number % len(MARKS)].format(number)
            places[(*path, key)] = f"{number}x"
            value[key] = None
        for key, inner in zip(list(value), shape.values(), strict=True):
            value[key] = filled(inner, numbers, places, (*path, key))
        return value
    if isinstance(shape, list):
        return [filled(inner, numbers, places, (*path, index)) for index, inner in enumerate(shape)]
    number = next(numbers)
    if path and isinstance(path[-1], int):
        places[path] = str(number)
    return {
        "number": number,
        "text": f"{number}",
        "lines": f'{number} = [\n[[a]]\n{{ b = \'c\'\n"""',
        "tricky": f"{number}\\\" # ]}}, ''' \\",
    }[shape]


@given(st.dictionaries(st.integers(), SHAPES, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_the_line_of_a_key_holds_the_key(shape, multiline, crlf):
    places = {}
    tree = filled(shape, itertools.count(10_000), places)
    text = tomli_w.dumps(tree, multiline_strings=multiline)
    if crlf:
        text = text.replace("\n", "\r\n")
    assert tomllib.loads(text) == tree
    lines, written = Lines(text), text.split("\n")
    for path, mark in places.items():
        # an item that is text over several lines begins where its quotes do
        here = written[lines.line(path) - 1] + (written[lines.line(path)] if isinstance(path[-1], int) else "")
        assert mark in here, (path, here)


TEXT = """\
# a comment with [brackets] = "and quotes
top = 1
a.b."c.d" = { e = 1, f.g = [1, 2] }   # dotted
multi = '''
[not.a.table]
x = 1'''
more = QQQ
quote \\"" here ""QQQ
dates = [1979-05-27 07:32:00Z, 07:32:00, [
  "deep", # comment ]
  { x = "}" },
]]

[ table . "quoted key" ]
key = true

[[webhook]]
name = "one"
[webhook.headers]
x-a = "b"
[[webhook.inner]]
i = 1
[[webhook.inner]]
i = 2

  [[webhook]]
  name = "two"
  [webhook.headers]
  x-a = "c"
  [[webhook.inner]]
  'i' = 3
[table]
late = inf""".replace("QQQ", '"""')


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("a",), 3),
        (("a", "b", "c.d", "f", "g", 1), 3),
        (("multi",), 4),
        (("more",), 7),
        (("dates", 0), 9),
        (("dates", 2), 9),
        (("dates", 2, 0), 10),
        (("dates", 2, 1, "x"), 11),
        (("table", "quoted key"), 14),
        (("table", "quoted key", "key"), 15),
        (("webhook",), 17),
        (("webhook", 0), 17),
        (("webhook", 0, "name"), 18),
        (("webhook", 0, "headers"), 19),
        (("webhook", 0, "headers", "x-a"), 20),
        (("webhook", 0, "inner", 0, "i"), 22),
        (("webhook", 0, "inner", 1, "i"), 24),
        (("webhook", 1), 26),
        (("webhook", 1, "name"), 27),
        (("webhook", 1, "headers", "x-a"), 29),
        (("webhook", 1, "inner", 0, "i"), 31),
        (("table", "late"), 33),
        (("webhook", 1, "url"), 26),
        (("webhook", 0, "headers", "x-b"), 19),
        (("nowhere", "at", "all"), 1),
    ],
)
def test_every_way_of_writing_a_key_has_its_line(path, line):
    tomllib.loads(TEXT)
    assert line_of(TEXT, path) == line


@pytest.mark.parametrize(
    ("text", "line", "telling"),
    [
        ("a = 1\nb = \n", 2, "Invalid value at column 5"),
        ("a = 1\nb = yes\n", 2, "Invalid value"),
        ("a = 1\na = 2\n", 2, "overwrite"),
        ("\n\n[a\n", 3, "column 3"),
        ('a = 1\nb = "x', 2, "at the end of the file"),
        ("a = 1\n\nb = [1,\n", 3, "at the end of the file"),
        ("a = 1\nb = 1" + "0" * 5000 + "\n", 2, "thousands of digits"),
        ("a = 1\nb = 2026-02-30\n", 2, "date"),
    ],
)
def test_a_text_that_is_no_toml_is_told_with_its_line(text, line, telling):
    with pytest.raises(ValueError, match=r"line|end|digits") as error:
        tomllib.loads(text)
    where, detail = refusal(text, error.value)
    assert where == line
    assert telling in detail


@pytest.mark.parametrize(
    "deep",
    [
        "a = " + "[" * 65 + "]" * 65,
        "a = " + "[" * 100_000,
        "a = " + "{a=" * 65 + "1" + "}" * 65,
        ".".join("a" * 66) + " = 1",
        "[" + ".".join("a" * 66) + "]",
        '"a".' * 65 + "a = 1",
    ],
)
def test_what_is_nested_too_deeply_is_found_without_recursion(deep):
    assert too_deep(f"x = 1\ny = '[['\n{deep}\nz = 1\n") == 3


@pytest.mark.parametrize(
    "flat",
    [
        "a = " + "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        "a = '''" + "[" * 99 + "\n'''\nb = \"" + "[." * 99 + '\\""',
        "# " + "[" * 99 + "." * 99,
        "[[a]]\n" * 99,
        "a = [" + "1.5, " * 99 + "]",
        "a = 1.5\n" * 99,
        'a = "' + "[" * 99,
    ],
)
def test_what_is_not_nested_too_deeply_is_left_alone(flat):
    assert too_deep(flat) is None


@given(st.text(alphabet="a.=[]{}\"'\\# \n1", max_size=60))
def test_looking_for_depth_never_fails_on_any_text(text):
    assert too_deep(text) is None

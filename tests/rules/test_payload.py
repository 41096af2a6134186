import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hookrelay.model import Event, Refused, Submission
from hookrelay.rules.payload import MAX_SIZE, body, parse

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def line(**fields: object) -> bytes:
    return json.dumps({"type": "booking.created", "data": {"id": 1}} | fields).encode()


def refusal(text: bytes, **options: object) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(text, **options)
    return caught.value


# --- what is taken ----------------------------------------------------------------------------------------------


def test_an_event_needs_only_type_and_data():
    assert parse(b'{"type":"booking.created","data":null}') == Submission("booking.created", b"null")


def test_every_field_is_kept():
    text = line(
        tenant="acme",
        idempotency_key="k 1",
        timestamp="2026-02-26T10:00:00Z",
        ordering_key="Zürich",
        traceparent=TRACE,
    )
    assert parse(text) == Submission(
        "booking.created", b'{"id": 1}', "acme", "k 1", "2026-02-26T10:00:00Z", "Zürich", TRACE
    )


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b'""',
        b"-0",
        b"1E+400",
        b"9" * 5000,
        b"[ 1 ,\t2 ]",
        b'{"a":1,"a":2}',
        b'{"type":"x","data":{"type":"y"}}',
        b'"\\u0000 \\/ \\ud83d\\ude00"',
        '"\U0001f600 é \x7f"'.encode(),
        b'"\\ud800"',
        b'["\\udc00\\ud800", "\\uDBFFx"]',
        b'"[[[[{{{{\\"[[[["',
    ],
)
@pytest.mark.parametrize("after", [b"", b" ", b',"tenant":"acme"', b',"ordering_key":"a\\"b"'])
def test_data_is_kept_byte_for_byte(data: bytes, after: bytes):
    assert parse(b'{ "type" : "a",\r\n"data": %b%b}' % (data, after)).data == data


def test_data_outlives_the_line_it_came_in():
    text = bytearray(line())
    submission = parse(bytes(text))
    text[:] = b"\0" * len(text)
    assert isinstance(submission.data, bytes)
    assert submission.data == b'{"id": 1}'


def test_data_may_begin_as_its_line_does():
    inner = b'{"type":"booking.created","data":1}'
    assert parse(b'{"type":"booking.created","data":%b}' % inner).data == inner


def test_escaped_names_and_values_are_understood():
    assert parse(rb'{"ty\u0070e":"\u0061","data":1,"ordering_key":"\"\ud83d\ude00"}') == Submission(
        "a", b"1", ordering_key='"\U0001f600'
    )


# --- what is no JSON --------------------------------------------------------------------------------------------

NOT_JSON = [
    b"",
    b" ",
    b"x",
    b"{",
    b"{}{}",
    b'\xef\xbb\xbf{"type":"a","data":1}',
    b'{"type":"a","data":1} x',
    b'{"type":"a","data":1,}',
    b'{"type":"a" "data":1}',
    b'{"type":"a","data"}',
    b"{'type':'a','data':1}",
    b'{type:"a","data":1}',
    b'{"type":"a\xff","data":1}',
    b'\x0c{"type":"a","data":1}',
    b'{"type":"a","data":1}\0',
    b'\xff\xfe{\0"\0',
    *(
        b'{"type":"a","data":%b}' % data
        for data in [
            *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"undefined", b"True", b"nul", b"truex", b""),
            *(b"01", b"-01", b"1.", b".5", b"-", b"+1", b"1e", b"1e+", b"0x1", b"1_0", b"1.e1"),
            *(b"[1,]", b"[,1]", b'{"a":1,}', b'{"a"}', b"{1:2}", b"[1 2]", b"[", b"]", b"[}", b"/**/1", b"1//"),
            *(b'"a', b'"\\x"', b'"\\u12"', b'"\\uZZZZ"', b'"\\ud800\\u"', b'"\\"', b"'a'"),
            *(b'"\x00"', b'"\n"', b'"\t"', b'"\x1f"', b"\xa01", b"\x0b1", "\u00a01".encode(), "\u20281".encode()),
            *(b'"\xff"', b'"\xc3"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'{"\xff":1}'),
        ]
    ),
]


@pytest.mark.parametrize("text", NOT_JSON)
def test_what_is_not_rfc_8259_json_in_utf_8_is_invalid_json(text: bytes):
    assert refusal(text).code == "invalid_json"


@pytest.mark.parametrize("field", [b"", b'"type":null,', b'"what":1,', b'"type":"b",'])
def test_json_is_judged_before_the_event(field: bytes):
    assert refusal(b'{%b"type":"a","data":1,}' % field).code == "invalid_json"


@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}"), (b'["]",', b"]"), (b'["\\\\",', b"]")])
@pytest.mark.parametrize("end", [b"", b',"ordering_key":"\\""'])
def test_nesting_goes_down_to_64_levels_the_event_included(pair: tuple[bytes, bytes], end: bytes):
    def nested(levels: int) -> bytes:
        return b'{"type":"a","data":%b1%b%b}' % (pair[0] * levels, pair[1] * levels, end)

    assert parse(nested(63)).type == "a"
    for levels in (64, 65, 900, 20_000):
        assert refusal(nested(levels)).code == "invalid_json"


def test_many_brackets_that_are_not_nested_are_fine():
    data = json.dumps([{"a": ['\\"[{', "]", "\\"]}] * 500 + [{}, "[" * 200]).encode()
    assert parse(b'{"type":"a","data":%b}' % data).data == data


def test_the_detail_of_a_json_mistake_says_where_it_is():
    assert "at character 27:" in refusal(b'{"type":"a","data":[1,2,3 "tenant":"x"}').detail
    assert "byte 21 " in refusal(b'{"type":"a","data":"\xff"}').detail
    assert "byte-order mark" in refusal(b"\xef\xbb\xbf{}").detail


# --- what is no event -------------------------------------------------------------------------------------------

LONG = "a" * 256

NO_EVENT = [
    ({"type": ""}, "type"),
    ({"type": "a..b"}, "type"),
    ({"type": ".a"}, "type"),
    ({"type": "a."}, "type"),
    ({"type": "a,b"}, "type"),
    ({"type": "a./b"}, "type"),
    ({"type": "a b"}, "type"),
    ({"type": "a\n"}, "type"),
    ({"type": "é"}, "type"),
    ({"type": "٣"}, "type"),
    ({"type": "*"}, "type"),
    ({"type": "a" * 129}, "type"),
    ({"type": None}, "type"),
    ({"type": ["a"]}, "type"),
    ({"tenant": ""}, "tenant"),
    ({"tenant": "a" * 129}, "tenant"),
    ({"tenant": "a/b"}, "tenant"),
    ({"tenant": "hookrelay"}, "tenant"),
    ({"tenant": "é"}, "tenant"),
    ({"tenant": "a\n"}, "tenant"),
    ({"tenant": None}, "tenant"),
    ({"tenant": 1}, "tenant"),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"idempotency_key": LONG}, "idempotency_key"),
    ({"idempotency_key": "é"}, "idempotency_key"),
    ({"idempotency_key": "a\tb"}, "idempotency_key"),
    ({"idempotency_key": "a\x7f"}, "idempotency_key"),
    ({"idempotency_key": None}, "idempotency_key"),
    ({"timestamp": "yesterday"}, "timestamp"),
    ({"timestamp": 1}, "timestamp"),
    ({"timestamp": None}, "timestamp"),
    ({"timestamp": ""}, "timestamp"),
    ({"ordering_key": ""}, "ordering_key"),
    ({"ordering_key": "é" * 256}, "ordering_key"),
    ({"ordering_key": "a\0"}, "ordering_key"),
    ({"ordering_key": "\ud800"}, "ordering_key"),
    ({"ordering_key": None}, "ordering_key"),
    ({"ordering_key": {}}, "ordering_key"),
    ({"traceparent": ""}, "traceparent"),
    ({"traceparent": None}, "traceparent"),
    ({"traceparent": TRACE.upper()}, "traceparent"),
    ({"traceparent": "01" + TRACE[2:]}, "traceparent"),
    ({"traceparent": TRACE + "-x"}, "traceparent"),
    ({"traceparent": TRACE + "\n"}, "traceparent"),
    ({"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"}, "traceparent"),
    ({"traceparent": f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01"}, "traceparent"),
    ({"tenat": "x"}, "tenat"),
    ({"test": True}, "test"),
    ({"Type": "a"}, "Type"),
    ({"": 1}, ""),
]


@pytest.mark.parametrize(("fields", "field"), NO_EVENT)
def test_a_field_against_its_rule_is_invalid_event_and_named(fields: dict[str, object], field: str):
    error = refusal(line(**fields))
    assert (error.code, error.field) == ("invalid_event", field)
    assert field in error.detail


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "A_1.b.C"},
        {"type": "a" * 128},
        {"tenant": "Az-_9" * 12},
        {"idempotency_key": "~ !"},
        {"idempotency_key": "a" * 255},
        {"ordering_key": "é" * 255},
        {"ordering_key": "\U0001f600" * 255},
        {"ordering_key": " \n\t"},
    ],
)
def test_a_field_at_the_edge_of_its_rule_is_taken(fields: dict[str, str]):
    for text in (line(**fields), json.dumps({"type": "a", "data": 1} | fields, ensure_ascii=False).encode()):
        submission = parse(text)
        assert {name: getattr(submission, name) for name in fields} == fields


@pytest.mark.parametrize("missing", ["type", "data"])
def test_type_and_data_are_required(missing: str):
    fields = {"type": "a", "data": 1}
    del fields[missing]
    error = refusal(json.dumps(fields).encode())
    assert (error.code, error.field) == ("invalid_event", missing)
    assert "missing" in error.detail


@pytest.mark.parametrize("text", [b"[]", b"1", b'"a"', b"null", b"true", b' [{"type":"a","data":1}] '])
def test_what_is_not_an_object_is_invalid_event(text: bytes):
    error = refusal(text)
    assert (error.code, error.field) == ("invalid_event", None)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"type":"a","data":1,"type":"b"}', "type"),
        (b'{"type":"a","data":1,"type":"a"}', "type"),
        (b'{"type":"a","data":1,"ty\\u0070e":"b"}', "type"),
        (b'{"type":"a","data":1,"data":1}', "data"),
        (b'{"data":"x","type":"a","data":"x"}', "data"),
        (b'{"data":"\\"","type":"a","data":""}', "data"),
        (b'{"type":"a","tenant":"x","data":1,"tenant":"y"}', "tenant"),
        # begins as its data does, and has as many quotes too many there
        (b'{"type":"bookingb","type":"a","data":{"type":"bookingxxxxxxxxxxxx"}}', "type"),
    ],
)
def test_a_field_given_twice_is_invalid_event(text: bytes, name: str):
    error = refusal(text)
    assert (error.code, error.field) == ("invalid_event", name)
    assert "twice" in error.detail


def test_an_unknown_field_gets_the_nearest_known_one_suggested():
    assert "did you mean tenant" in refusal(line(tenat="x")).detail


@pytest.mark.parametrize("name", ["x" * 5000, "\ud800", "\u202e\x1b[31m"])
def test_a_hostile_name_is_repeated_short_and_sendable(name: str):
    error = refusal(line(**{name: 1}))
    assert error.field is not None
    assert len(json.dumps([error.detail, error.field])) < 500
    error.field.encode()
    assert error.detail.isprintable()


# --- size and catalogue -----------------------------------------------------------------------------------------


def test_a_line_may_be_as_long_as_max_size():
    start, end = b'{"type":"a","data":"', b'"}'
    fits = start + b"x" * (MAX_SIZE - len(start) - len(end)) + end
    assert len(parse(fits).data) == MAX_SIZE - len(start) - len(end) + 2
    assert refusal(fits + b" ").code == "too_large"
    assert parse(fits + b" ", max_size=MAX_SIZE + 1).type == "a"
    assert refusal(b"\xff" * 11, max_size=10).code == "too_large"


def test_a_closed_catalogue_refuses_other_types_and_suggests_near_ones():
    known = frozenset({"booking.created", "booking.cancelled", "payment.settled"})
    assert parse(line(), known_types=known).type == "booking.created"
    error = refusal(line(type="booking.creatd"), known_types=known)
    assert (error.code, error.field) == ("unknown_event_type", "type")
    assert 'did you mean "booking.created"' in error.detail
    assert "did you mean" not in refusal(line(type="zebra"), known_types=known).detail
    assert refusal(line(type="zebra"), known_types=frozenset()).code == "unknown_event_type"


# --- against a judge --------------------------------------------------------------------------------------------

RULES = {
    "type": re.compile(r"(?=.{1,128}\Z)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*"),
    "tenant": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "idempotency_key": re.compile(r"[ -~]{1,255}"),
    "ordering_key": re.compile("[^\0\ud800-\udfff]{1,255}"),
}


class Pairs(list[tuple[str, object]]):
    pass


def depth(value: object) -> int:
    if isinstance(value, Pairs):
        return 1 + max((depth(each) for _, each in value), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def judged(text: bytes) -> str:
    """What the contract says of a line, found the slow way, by the standard library alone."""

    def refuse(name: str) -> object:
        raise ValueError(name)

    try:
        whole = json.loads(
            text.decode(),
            object_pairs_hook=Pairs,
            parse_constant=refuse,
            parse_int=lambda _: 0,
            parse_float=lambda _: 0,
        )
    except (ValueError, RecursionError):
        return "invalid_json"
    if depth(whole) > 64:
        return "invalid_json"
    if not isinstance(whole, Pairs):
        return "invalid_event"
    fields = dict(whole)
    if len(fields) < len(whole) or not {"type", "data"} <= fields.keys() <= {"data", *RULES}:
        return "invalid_event"
    for name, rule in RULES.items():
        value = fields.get(name, "x")
        if not isinstance(value, str) or isinstance(value, Pairs) or not rule.fullmatch(value):
            return "invalid_event"
    return "taken"


def outcome(text: bytes) -> str:
    try:
        submission = parse(text)
    except Refused as error:
        return error.code
    assert submission.data in text
    assert json.loads(submission.data) == json.loads(text)["data"]
    return "taken"


VALUES = [
    b"1",
    b'"x"',
    b'{"a":[1,{"b":"c"}],"type":"x"}',
    b'["\\ud83d\\ude00\\n","\xc3\xa9"]',
    b"-1.5e+3",
    b"[" * 63 + b"]" * 63,
    b"[true,false,null]",
    b'["' + b"[" * 70 + b'"]',
]
LINES = [
    line_
    for value in VALUES
    for line_ in (
        b'{"type":"a.b","data":%b}' % value,
        b'{"data": %b, "type": "a.b", "tenant": "acme"}' % value,
        b'{"type":"a","ordering_key":"\\"q","idempotency_key":"k","data":%b}' % value,
    )
]
PIECES = [
    *(b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b" ", b"\n", b"\t", b"\r", b"\x0b", b"\x0c", b"\0", b"\x1f"),
    *(b"\x7f", b"\xff", b"\xc3\xa9", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xc2\xa0"),
    *(b"\\u", b"\\ud800", b"\\udc00", b"\\uDBFF\\uDFFF", b"\\u0000", b"\\u0022", b'\\"', b"\\\\", b"\\/", b"\\x"),
    *(b"0", b"-", b"+", b".", b"e", b"E", b"1e999", b"NaN", b"Infinity", b"null", b"true", b"nul", b"[" * 64),
    *(b'"type":"c",', b',"type":"c"', b'"data":1,', b',"tenant":"t"', b'"what":1,', b',"ordering_key":"\\""', b"[]"),
]


@st.composite
def bent_lines(draw: st.DrawFn) -> bytes:
    text = draw(st.sampled_from(LINES))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        until = at + draw(st.sampled_from([0, 0, 0, 1, 1, 2, 5]))
        text = text[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=2)) + text[until:]
    return text


@settings(max_examples=400)
@given(bent_lines())
@example(b'{"type":"a","data":1,"data":1}')
def test_every_bent_line_is_judged_as_the_standard_library_does(text: bytes):
    assert outcome(text) == judged(text)


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_any_json_value_may_be_data(value: object, ascii_only: bool, indent: int | None):
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8")
    assert parse(b'{"data":%b,"type":"a"}' % data).data == data


# --- the delivered body -----------------------------------------------------------------------------------------


def event(data: bytes = b'{ "n":1.0 }', *, test: bool = False) -> Event:
    return Event(1, 1, "evt_01", "booking.created", "default", "2026-02-26T10:00:00Z", data, test=test)


def test_the_body_holds_data_byte_for_byte():
    assert body(event()) == (
        b'{"id":"evt_01","type":"booking.created","timestamp":"2026-02-26T10:00:00Z","data":{ "n":1.0 }}'
    )


def test_only_a_test_events_body_says_so():
    assert body(event(b"[]", test=True)) == (
        b'{"id":"evt_01","type":"booking.created","timestamp":"2026-02-26T10:00:00Z","test":true,"data":[]}'
    )


@given(JSON)
def test_the_body_is_json_that_gives_the_data_back(value: object):
    data = json.dumps(value).encode()
    assert json.loads(body(event(data)))["data"] == value

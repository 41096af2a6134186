"""The rules of a webhook's fields: tables of right and wrong texts, and the laws they obey."""

import base64
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import Webhook, WebhookFields
from hookrelay.rules import webhook as rules
from hookrelay.rules.egress import Policy
from hookrelay.rules.webhook import (
    Defaults,
    check,
    decode_secret,
    file_webhook_id,
    parse_retry,
    read,
    resolve,
)

POLICY = Policy()
KEY = bytes(range(32))
HINT = 'write "whsec_" and the base64 of 24 to 64 random bytes, as `openssl rand -base64 32` prints it'
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def fields(**said) -> WebhookFields:
    return WebhookFields(**{"url": "https://example.com/hooks", "events": ["booking.created"], **said})


def wrong(**said) -> list[tuple[str, str]]:
    return [(error.field, error.detail) for error in check(fields(**said), policy=POLICY)]


RIGHT = [
    {"url": "https://example.com"},
    {"url": "https://example.com:8443/a/b?c=d"},
    {"events": ["*"]},
    {"events": ["booking.*", "a", "A_1.b.C", "payment.*"]},
    {"events": ["x" * 128]},
    {"tenant": "a" * 128},
    {"tenant": "A-1_z.b:c@d"},
    {"tenant": "hookrelay"},
    {"events": ["orders/create", "invoice:*", "*.created", "a.*.b", "trial.will-end"]},
    {"secret": SECRET},
    {"secret": "whsec_" + base64.b64encode(b"x" * 24).decode()},
    {"secret": "whsec_" + base64.b64encode(b"x" * 64).decode()},
    {"secret": SECRET.rstrip("=")},
    {"rate_limit": "10/s"},
    {"rate_limit": "600/m"},
    {"rate_limit": "100/h burst 5"},
    {"max_in_flight": 1},
    {"max_in_flight": 1000},
    {"timeout": "100ms"},
    {"timeout": "2m"},
    {"retry": []},
    {"retry": ["1s"] * 50},
    {"retry": ["7d"]},
    {"retry": "exponential(1s, 2, 1h, 12)"},
    {"retry": "exponential(500ms,1.5,30s,50)"},
    {"headers": {"X-Source": "hookrelay", "authorization": "Bearer a b", "x-empty": ""}},
    {"headers": {f"x-{number}": "y" for number in range(32)}},
    {"description": "ä" * 1024},
    {"metadata": {"a": [1, None, True, 1.5, {"b": "c"}]}},
    {"metadata": {"a": "x" * (4096 - len('{"a":""}'))}},
]


@pytest.mark.parametrize("said", RIGHT, ids=lambda said: str(said)[:40])
def test_what_the_contract_allows_is_right(said):
    assert wrong(**said) == []


WRONG = [
    ({"url": "http://example.com"}, "url", "egress.allow_http"),
    ({"url": "example.com"}, "url", "https://"),
    ({"url": "https://10.1.2.3/"}, "url", '"10.1.2.3/32:443" to egress.allow'),
    ({"url": "https://billing.internal/"}, "url", '"billing.internal:443" to egress.allow'),
    ({"events": []}, "events", '"booking.created"'),
    ({"events": ["*"] * 1001}, "events", "1000"),
    ({"events": ["a", "b", "a"]}, "events.2", "twice"),
    ({"events": ["a", "booking."]}, "events.1", '"booking.*"'),
    ({"events": [".a"]}, "events.0", "not an event type"),
    ({"events": ["a..b"]}, "events.0", "not an event type"),
    ({"events": ["a.b c"]}, "events.0", "not an event type"),
    ({"events": ["a*"]}, "events.0", "has * within a word"),
    ({"events": ["a.**"]}, "events.0", "not an event type"),
    ({"events": ["a.*b.c"]}, "events.0", "has * within a word"),
    ({"events": [".*"]}, "events.0", "not an event type"),
    ({"events": ["a.b\n"]}, "events.0", "\\n"),
    ({"events": ["x" * 129]}, "events.0", "128"),
    ({"tenant": ""}, "tenant", '"acme"'),
    ({"tenant": "a" * 129}, "tenant", "128"),
    ({"tenant": "a/b"}, "tenant", '"acme"'),
    ({"secret": "sk_abc"}, "secret", "whsec_"),
    ({"secret": "whsec_!!!"}, "secret", "base64"),
    ({"secret": "whsec_" + base64.b64encode(b"x" * 23).decode()}, "secret", "23 bytes"),
    ({"secret": "whsec_" + base64.b64encode(b"x" * 65).decode()}, "secret", "65 bytes"),
    ({"secret": "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode()}, "secret", "base64"),
    ({"secret": SECRET.rstrip("=") + "=="}, "secret", "base64"),
    ({"secret": "whsec_" + "A" * 33}, "secret", "base64"),
    ({"secret": SECRET[:-2] + "9"}, "secret", "base64"),
    ({"secret": SECRET[:-2] + "9="}, "secret", "base64"),
    ({"secret": "whsec_ä"}, "secret", "base64"),
    ({"rate_limit": "10"}, "rate_limit", '"10/s"'),
    ({"rate_limit": "0/s"}, "rate_limit", '"10/s"'),
    ({"rate_limit": "10/d"}, "rate_limit", '"600/m"'),
    ({"rate_limit": "10/s burst"}, "rate_limit", "burst 50"),
    ({"max_in_flight": 0}, "max_in_flight", "1 to 1000"),
    ({"max_in_flight": 1001}, "max_in_flight", "1 to 1000"),
    ({"max_in_flight": 10**5000}, "max_in_flight", "1 to 1000"),
    ({"timeout": "99ms"}, "timeout", '"100ms"'),
    ({"timeout": "121s"}, "timeout", '"120s"'),
    ({"timeout": "soon"}, "timeout", '"30s"'),
    ({"retry": ["5s", "5 minutes"]}, "retry.1", "not a duration"),
    ({"retry": ["8d"]}, "retry.0", '"7d"'),
    ({"retry": ["1s"] * 51}, "retry", "50"),
    ({"retry": "5s"}, "retry", "exponential("),
    ({"retry": "exponential(1s, 2, 1h)"}, "retry", "first wait, factor, longest wait, attempts"),
    ({"retry": "exponential(1s, 2, 1h, 0)"}, "retry", "1 to 50"),
    ({"retry": "exponential(1s, 2, 1h, 51)"}, "retry", "1 to 50"),
    ({"retry": "exponential(1s, 0.5, 1h, 5)"}, "retry", "factor"),
    ({"retry": "exponential(2h, 2, 1h, 5)"}, "retry", "shorter than the first"),
    ({"retry": "exponential(1s, 2, 8d, 5)"}, "retry", '"7d"'),
    ({"headers": {f"x-{number}": "y" for number in range(33)}}, "headers", "32"),
    ({"headers": {"x y": "z"}}, "headers", "not a header's name"),
    ({"headers": {"": "z"}}, "headers", "not a header's name"),
    ({"headers": {"x:y": "z"}}, "headers", "not a header's name"),
    ({"headers": {"x-a": "1", "X-A": "2"}}, "headers.X-A", "twice"),
    ({"headers": {"x-a": "a\r\nx-b: c"}}, "headers.x-a", "printable ASCII"),
    ({"headers": {"x-a": "ä"}}, "headers.x-a", "printable ASCII"),
    ({"headers": {"x-a": " b"}}, "headers.x-a", "printable ASCII"),
    ({"headers": {"x-a": "b "}}, "headers.x-a", "printable ASCII"),
    ({"headers": {"x-a": "b" * 4097}}, "headers.x-a", "4096"),
    ({"description": "x" * 1025}, "description", "1024"),
    ({"metadata": {"a": "x" * 4096}}, "metadata", "4096"),
    ({"metadata": {"a": float("nan")}}, "metadata", "nan"),
    ({"metadata": {"a": [float("-inf")]}}, "metadata", "inf"),
    ({"metadata": {"a": 10**5000}}, "metadata", "64 bits"),
    ({"metadata": {"a": {1, 2}}}, "metadata", "JSON lacks"),
]


@pytest.mark.parametrize(("said", "field", "telling"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_field_is_named_and_told_what_would_be_right(said, field, telling):
    [(told, detail)] = wrong(**said)
    assert told == field
    assert telling in detail


OURS = """
    Host Content-Length Transfer-Encoding Connection TE Trailer Upgrade Expect Proxy-Authorization proxy-x Webhook-Id
    webhook-signature webhook-x Idempotency-Key Content-Type Accept-Encoding User-Agent
"""


@pytest.mark.parametrize("name", OURS.split())
def test_a_header_that_hookrelay_sets_is_refused_in_any_case(name):
    assert [field for field, _ in wrong(headers={name: "x"})] == [f"headers.{name}"]
    assert [field for field, _ in wrong(headers={name.lower(): "x"})] == [f"headers.{name.lower()}"]


def test_every_mistake_is_told_at_once():
    told = wrong(
        url="x", events=["", "a", "."], tenant=" ", secret="x", rate_limit="x", max_in_flight=0, timeout="x",
        retry=["x", "1s", "y"], headers={"host": "ä"}, description="x" * 2000, metadata={"a": float("inf")},
    )  # fmt: skip
    assert [field for field, _ in told] == [
        *("url", "events.0", "events.2", "description", "tenant", "secret", "rate_limit", "max_in_flight", "timeout"),
        *("retry.0", "retry.2", "headers.host", "headers.host", "metadata"),
    ]


def test_what_the_operator_allows_is_right():
    assert check(fields(url="http://localhost:8080/x"), policy=Policy(("localhost:8080",), allow_http=True)) == []


def test_an_international_host_name_is_read_as_its_ascii_form():
    read_fields, errors = read({"url": "https://bücher.example/x?y=1", "events": ["*"]}, policy=POLICY)
    assert errors == []
    assert read_fields is not None
    assert read_fields.url == "https://xn--bcher-kva.example/x?y=1"


def test_a_host_name_without_an_ascii_form_is_one_mistake_beside_the_others():
    _, errors = read({"url": "https://①②⑦.⓪.⓪.①/", "events": []}, policy=POLICY)
    assert [error.field for error in errors] == ["url", "events"]
    assert "IDNA 2008" in errors[0].detail


def test_metadata_nested_64_deep_is_right_and_deeper_is_not():
    def nested(depth):
        value = {}
        for _ in range(depth - 1):
            value = {"a": value}
        return value

    assert wrong(metadata=nested(64)) == []
    assert wrong(metadata=nested(65)) == [("metadata", "is nested more than 64 deep: make it flatter")]
    assert "64 deep" in wrong(metadata=nested(100_000))[0][1]


# --- laws -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_header_that_is_let_through_cannot_end_its_line(name, value):
    if not wrong(headers={name: value}):
        assert not set(name + value) & set("\r\n\0")
        assert (name + value).isascii()
        assert ":" not in name


@given(st.binary(min_size=24, max_size=64))
def test_a_secret_decodes_to_the_key_it_was_made_from(key):
    encoded = base64.b64encode(key).decode()
    assert decode_secret("whsec_" + encoded) == decode_secret("whsec_" + encoded.rstrip("=")) == key


@given(st.text(min_size=8, max_size=30).filter(lambda text: text not in HINT))
def test_a_refused_secret_is_not_repeated(text):
    for secret in (text, "whsec_" + text):
        with pytest.raises(ValueError, match="whsec_") as refusal:
            decode_secret(secret)
        assert text not in str(refusal.value)
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@given(st.dictionaries(st.sampled_from([*WebhookFields.__struct_fields__, "hdrs"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6,
)))  # fmt: skip
def test_whatever_stands_there_gives_fields_or_mistakes_and_never_a_crash(values):
    read_fields, errors = read(values, policy=POLICY)
    assert (read_fields is None) == bool(errors)
    if read_fields is not None:
        assert check(read_fields, policy=POLICY) == []
        assert msgspec.convert(values, WebhookFields) == read_fields


# --- types ------------------------------------------------------------------------------------------------------

WRONG_TYPES = [
    ("url", 5, "url", 'expected a URL such as "https://example.com/hooks", got an integer'),
    ("events", "*", "events", 'expected a list of event types such as ["booking.created", "payment.*"], got text'),
    ("events", ["a", 5], "events.1", 'expected text such as "booking.created", got an integer'),
    ("description", True, "description", "got true or false"),
    ("description", None, "description", "got null"),
    ("tenant", 1.5, "tenant", "got a number with a point"),
    ("secret", [], "secret", "got a list"),
    ("rate_limit", 10, "rate_limit", 'expected a rate such as "10/s", got an integer'),
    ("max_in_flight", "8", "max_in_flight", "expected a whole number such as 8, got text"),
    ("max_in_flight", True, "max_in_flight", "got true or false"),
    ("timeout", 30, "timeout", 'expected a duration such as "30s", got an integer'),
    ("retry", 5, "retry", "exponential(1s, 2, 1h, 12)"),
    ("retry", {"a": "b"}, "retry", "got a table"),
    ("retry", ["5s", 5], "retry.1", 'expected text such as "5m", got an integer'),
    ("headers", ["a"], "headers", "got a list"),
    ("headers", {"x-a": 5}, "headers.x-a", "got an integer"),
    ("ordered", "yes", "ordered", "expected true or false such as true, got text"),
    ("metadata", "x", "metadata", "got text"),
]


@pytest.mark.parametrize(("key", "value", "field", "telling"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_told_what_is_wanted(key, value, field, telling):
    right = {"url": "https://example.com/", "events": ["*"]}
    result, [error] = read({**right, key: value}, policy=POLICY)
    assert result is None
    assert error.field == field
    assert telling in error.detail


def test_items_of_the_right_type_are_checked_beside_items_of_the_wrong_one():
    _, errors = read(
        {"url": "https://example.com/", "events": [5, "."], "headers": {"host": "x", "x-a": 5}, "retry": [1, "x"]},
        policy=POLICY,
    )
    assert {error.field for error in errors} == {
        *("events.0", "events.1", "headers.host", "headers.x-a", "retry.0", "retry.1"),
    }


def test_missing_and_unknown_fields_are_told_with_the_rest():
    _, errors = read({"uri": "x", "colour": 1, "timeout": "x", "nam": "y"}, policy=POLICY, also=["name"])
    told = {error.field: error.detail for error in errors}
    assert set(told) == {"uri", "colour", "timeout", "nam", "url", "events"}
    assert told["uri"] == "is unknown: did you mean url?"
    assert told["nam"] == "is unknown: did you mean name?"
    assert told["colour"].startswith("is unknown: there are description, events,")
    assert "is missing" in told["url"]


def test_every_field_of_the_model_has_its_rules():
    assert tuple(rules._FIELDS) == WebhookFields.__struct_fields__


# --- what a webhook comes to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "delays"),
    [
        (["5s", "5m"], (0, 5, 300)),
        ([], (0,)),
        ("exponential(1s, 2, 10s, 6)", (0, 1, 2, 4, 8, 10)),
        ("exponential( 500ms ,1.5, 1s,4 )", (0, 0.5, 0.75, 1)),
        ("exponential(1s, 2, 1h, 1)", (0,)),
        (rules.DEFAULT_RETRY, (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)),
    ],
)
def test_a_schedule_is_the_wait_before_each_attempt_the_first_included(retry, delays):
    assert parse_retry(retry) == delays


@given(st.integers(1, 10_000), st.integers(1, 99), st.integers(1, 7 * 24), st.integers(1, 50))
def test_an_exponential_rises_to_its_longest_wait_in_as_many_attempts_as_asked(wait_ms, factor, hours, attempts):
    delays = parse_retry(f"exponential({wait_ms}ms, {factor}, {hours}h, {attempts})")
    assert len(delays) == attempts
    assert list(delays) == sorted(delays)
    assert max(delays) <= hours * 3600


def test_a_webhook_that_says_nothing_gets_the_defaults():
    defaults = Defaults(timeout_s=5.0, retry=("1s",), max_in_flight=3, rate_limit="7/s")
    assert resolve(fields(), id="wh_1", source="api", defaults=defaults, secrets=(KEY,)) == Webhook(
        id="wh_1",
        url="https://example.com/hooks",
        events=("booking.created",),
        rate_limit="7/s",
        max_in_flight=3,
        timeout_s=5.0,
        retry=("1s",),
        delays=(0.0, 1.0),
        secrets=(KEY,),
        source="api",
    )


def test_a_webhook_that_says_something_keeps_it():
    said = fields(
        description="d", tenant="acme", rate_limit="1/h", max_in_flight=1, timeout="2s", retry=[], ordered=True,
        headers={"x-b": "1", "x-a": "2"}, metadata={"k": 1},
    )  # fmt: skip
    webhook = resolve(said, id="wh_1", source="file:a.toml", defaults=Defaults(), secrets=(KEY, b"old"))
    assert (webhook.description, webhook.tenant, webhook.rate_limit, webhook.max_in_flight) == ("d", "acme", "1/h", 1)
    assert (webhook.timeout_s, webhook.retry, webhook.delays) == (2.0, (), (0.0,))
    assert webhook.headers == (("x-b", "1"), ("x-a", "2"))
    assert (webhook.ordered, webhook.metadata, webhook.secrets) == (True, {"k": 1}, (KEY, b"old"))
    assert webhook.source == "file:a.toml"


def test_the_id_of_a_file_webhook_depends_on_its_name_alone():
    # the first 80 bits of SHA-256 in base 32; a fixed value, since histories hang on it
    assert file_webhook_id("accounts") == "wh_0000000000QHHA7GAFXGKQWFE6"
    assert file_webhook_id("accounts") != file_webhook_id("Accounts")
    assert re.fullmatch(r"wh_0{10}[0-9A-HJKMNP-TV-Z]{16}", file_webhook_id("accounts"))


def test_a_webhook_is_called_by_its_name_in_a_file_or_by_its_url_s_host():
    api = resolve(
        fields(url="https://example.com:8443/t0ken?x=t0ken"),
        id="wh_1",
        source="api",
        defaults=Defaults(),
        secrets=(KEY,),
    )
    file = resolve(fields(), id="wh_2", name="crm", source="file:a.toml", defaults=Defaults(), secrets=(KEY,))
    assert rules.told(api) == {"webhook": "wh_1", "webhook_name": "example.com", "tenant": "default"}
    assert rules.told(file)["webhook_name"] == "crm"


def test_a_url_is_read_as_it_will_be_kept():
    said, errors = read({"url": " Https://example.com/x\n", "events": ["*"]}, policy=POLICY)
    assert (said and said.url, errors) == ("https://example.com/x", [])

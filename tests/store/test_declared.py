"""What files say of webhooks, beside what is on disk of them."""

import json
from typing import Any

import apsw
import pytest
from builders import START_MS

from hookrelay.store import events, webhooks
from hookrelay.store.open import open_memory
from hookrelay.store.webhooks import (
    Declared,
    Known,
    News,
    declare,
    find_news,
    known,
    missing,
    note_missing,
    remove_missing,
    text_of,
)

NOTHING = News([], [], [], [])

A = Declared("wh_a", "acme", "file:a.toml", "active", text_of({"url": "https://a.example/"}))
B = Declared(
    "wh_b", "acme", "file:b.toml", "paused", text_of({"url": "https://b.example/", "description": "Größe\0 ☃"})
)


@pytest.fixture
def conn() -> apsw.Connection:
    made = open_memory(START_MS).writer
    declare(made, find_news(made, [A, B]), 5)
    return made


def test_what_is_declared_is_on_disk_and_no_news_any_more(conn: apsw.Connection):
    assert known(conn) == {
        "wh_a": Known(1, "wh_a", "active", None, 5, 5),
        "wh_b": Known(2, "wh_b", "paused", None, 5, 5),
    }
    assert find_news(conn, [B, A]) == NOTHING
    assert [row[0] for row in conn.execute("SELECT definition FROM webhook ORDER BY seq")] == [
        A.definition,
        B.definition,
    ]


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"source": "file:c.toml"}, {"definition": '{"url":"x"}'}])
def test_what_differs_is_news_and_gets_a_fresh_start(conn: apsw.Connection, change: dict[str, Any]):
    conn.execute("UPDATE webhook SET status = 'disabled', disabled_reason = 'gone', failures = 3")
    changed = A._replace(**change)
    news = find_news(conn, [changed, B])
    assert news == NOTHING._replace(declared=[changed])
    declare(conn, news, 9)
    assert known(conn) == {
        "wh_a": Known(1, "wh_a", "active", None, 5, 9),
        "wh_b": Known(2, "wh_b", "disabled", "gone", 5, 5),
    }
    assert conn.execute("SELECT failures FROM webhook ORDER BY seq").fetchall() == [(0,), (3,)]


def _of_the_api(conn: apsw.Connection) -> None:
    conn.execute(
        "INSERT INTO webhook (id, tenant, source, definition, fields, created_ms, updated_ms)"
        " VALUES ('wh_c', 'acme', 'api', '{}', '{}', 0, 0)"
    )


def test_what_no_file_has_is_removed_where_that_is_wished_and_comes_back_under_its_key(conn: apsw.Connection):
    _of_the_api(conn)
    news = find_news(conn, [B], removes=True)
    assert news == NOTHING._replace(removed=[1])
    declare(conn, news, 9)
    assert (list(known(conn)), conn.execute("SELECT removed_ms FROM webhook").fetchall()) == (
        ["wh_b"],
        [(9,), (None,), (None,)],
    )
    news = find_news(conn, [A, B])
    assert news == NOTHING._replace(declared=[A])
    declare(conn, news, 10)
    assert known(conn)["wh_a"] == Known(1, "wh_a", "active", None, 5, 10)


def test_what_no_file_has_is_missing_and_comes_back_as_it_was(conn: apsw.Connection):
    _of_the_api(conn)
    conn.execute("UPDATE webhook SET status = 'disabled', disabled_reason = 'gone', failures = 3 WHERE id = 'wh_a'")
    news = find_news(conn, [B])
    assert news == NOTHING._replace(missing=[1])
    declare(conn, news, 9)
    assert find_news(conn, [B]) == NOTHING
    assert [(row.id, row.missing_ms) for row in missing(conn)] == [("wh_a", 0)]
    note_missing(conn, {1: 15, 2: 15})
    assert [(row.id, row.missing_ms) for row in missing(conn)] == [("wh_a", 15)]
    back = find_news(conn, [A, B])
    assert back == NOTHING._replace(returned=[1])
    declare(conn, back, 11)
    assert missing(conn) == []
    assert known(conn)["wh_a"] == Known(1, "wh_a", "disabled", "gone", 5, 11)
    note_missing(conn, {1: 22})
    assert missing(conn) == []


def test_what_has_come_back_meanwhile_is_not_removed(conn: apsw.Connection):
    declare(conn, find_news(conn, [B]), 9)
    declare(conn, find_news(conn, [A, B]), 10)
    remove_missing(conn, [1], 11)
    assert list(known(conn)) == ["wh_a", "wh_b"]
    declare(conn, find_news(conn, [B]), 12)
    remove_missing(conn, [1], 13)
    assert list(known(conn)) == ["wh_b"]


def test_a_definition_is_written_as_earlier_versions_wrote_it():
    """Else a new version would take every webhook for a changed one, and make disabled ones active."""
    said = {
        "url": "https://a.example/",
        "retry": ("5s", "5m"),
        "timeout_s": 30.0,
        "metadata": {"ü": None},
        "ordered": False,
    }
    assert text_of(said) == json.dumps(said, sort_keys=True, separators=(",", ":"))
    assert text_of({"b": 1.0, "a": "é"}) == '{"a":"\\u00e9","b":1.0}'


def test_a_request_whose_key_was_kept_by_0_1_is_known_by_its_equal_bytes(conn):
    def asked(content: bytes, value: bytes) -> events.Key:
        of_bytes, of_value = (
            events.idempotency_key(b"salt", "a", "POST /v1/webhooks k", "", each, 10, 60_000)
            for each in (content, value)
        )
        return of_value._replace(earlier_fingerprint=of_bytes.fingerprint)

    text = webhooks.Text(definition={"url": "https://a.example/"}, fields="{}", sealed=b"")
    kept = asked(b'{"a": 1}', b'{"a": 1}')  # as 0.1 did: by its bytes
    seq = webhooks.make(conn, "wh_m", "a", text, 1, kept, True)
    assert isinstance(seq, int)
    assert webhooks.make(conn, "wh_n", "a", text, 2, asked(b'{"a": 1}', b"value"), True) == "wh_m"
    assert webhooks.make(conn, "wh_o", "a", text, 3, asked(b'{"a": 2}', b"value 2"), True) == "conflict"

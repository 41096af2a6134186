"""What files say of webhooks, beside what is on disk of them."""

import json
from typing import Any

import apsw
import pytest
from builders import START_MS

from hookrelay.store.open import open_memory
from hookrelay.store.webhooks import Declared, Known, News, declare, find_news, known, text_of

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
    assert find_news(conn, [B, A]) == News([], [])
    assert [row[0] for row in conn.execute("SELECT definition FROM webhook ORDER BY seq")] == [
        A.definition,
        B.definition,
    ]


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"source": "file:c.toml"}, {"definition": '{"url":"x"}'}])
def test_what_differs_is_news_and_gets_a_fresh_start(conn: apsw.Connection, change: dict[str, Any]):
    conn.execute("UPDATE webhook SET status = 'disabled', disabled_reason = 'gone', failures = 3")
    changed = A._replace(**change)
    news = find_news(conn, [changed, B])
    assert news == News([changed], [])
    declare(conn, news, 9)
    assert known(conn) == {
        "wh_a": Known(1, "wh_a", "active", None, 5, 9),
        "wh_b": Known(2, "wh_b", "disabled", "gone", 5, 5),
    }
    assert conn.execute("SELECT failures FROM webhook ORDER BY seq").fetchall() == [(0,), (3,)]


def test_what_no_file_has_is_removed_and_comes_back_under_its_key(conn: apsw.Connection):
    conn.execute(
        "INSERT INTO webhook (id, tenant, source, definition, fields, created_ms, updated_ms)"
        " VALUES ('wh_c', 'acme', 'api', '{}', '{}', 0, 0)"
    )
    news = find_news(conn, [B])
    assert news == News([], [1])
    declare(conn, news, 9)
    assert (list(known(conn)), conn.execute("SELECT removed_ms FROM webhook").fetchall()) == (
        ["wh_b"],
        [(9,), (None,), (None,)],
    )
    assert find_news(conn, [A, B]) == News([A], [])
    declare(conn, News([A], []), 10)
    assert known(conn)["wh_a"] == Known(1, "wh_a", "active", None, 5, 10)


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

"""Text that customers, receivers and strangers chose, on every page: it shows as text, and does nothing."""

import json
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from rig import answer, wait_for

SCRIPT = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
BIDI = "safe\u202eexe.txt\u2066x\u2069"
TERMINAL = "\x1b[31mred\x1b]0;title\x07\x9b1m"
LONG = "w" * 100_000
QUOTES = "\"'`{{7*7}}${7*7}<!--</textarea></pre></title>&amp;&lt;"
HOSTILE = {"printable": SCRIPT + QUOTES, "unseen": BIDI + TERMINAL, "long": LONG}


def seen(page):
    """What a reader sees of a page, and what else holds wherever hostile text stands."""
    assert "pwned" not in page.title()
    assert page.evaluate("document.querySelectorAll('img, script:not([src]), style, iframe').length") == 0
    text = page.evaluate("document.documentElement.textContent + document.documentElement.outerHTML")
    for hidden in "\u202e\u2066\u2069\x1b\x07\x9b":
        assert hidden not in text
    assert len(page.content().encode()) < 100_000
    return page.locator("main").inner_text()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_shows_as_text(kind, served, visitor, told):
    text = HOSTILE[kind]
    is_printable = text.isascii() and text.isprintable()
    house = served()
    body = (text + "\n" + "<b>bold</b>").encode("utf-8", "surrogatepass")
    field = text.encode("utf-8").replace(b"\x07", b"\t").replace(b"\x1b", b"\xff")[:6000].decode("latin-1")
    said = answer(500, b"").replace(b"\r\n\r\n", b"").replace(b"content-length: 0", b"content-length: %d" % len(body))
    told.says["/hooks"] = said + f"\r\nx-hostile: {field}\r\n\r\n".encode("latin-1") + body
    description = text[:1000]
    webhook = house.admin.make(
        told.url("/hooks?a=%3Cscript%3E&b='onload='x"),
        tenant="acme",
        description=description,
        metadata={"note": text[:1000]},
        headers={"x-note": text[:200]} if is_printable else {},
        retry=["24h"],
    )
    path = webhook["url"].removeprefix(told.url(""))
    told.says[path] = told.says["/hooks"]
    reply = house.admin.post(
        "/v1/events",
        {
            "type": "a.b",
            "tenant": "acme",
            "data": {"text": text, text[:50]: 1},
            "ordering_key": text[:200],
            **({"idempotency_key": text[:200]} if is_printable else {}),
        },
    )
    assert reply.status == 202, reply.body
    told.wait_at(path, 1)
    wait_for(lambda: house.admin.data("/v1/deliveries")[0]["attempt_count"] == 1)
    delivery = house.admin.data("/v1/deliveries")[0]["id"]

    someone = visitor(house)
    someone.expected = {401, 403, 404, 422}
    page = someone.sign_in(house.admin.key_for("*", "admin").key)
    assert description[:20].split("\u202e")[0].split("\x1b")[0] in seen(page)
    id = webhook["id"]
    for path in ("", "?span=7d", "/edit", "/rotate", "/delete", "/replay"):
        page.goto(f"/dashboard/webhooks/{id}{path}")
        seen(page)
    page.goto(f"/dashboard/webhooks/{id}")
    page.get_by_role("button", name="Send test").click()
    expect(page.locator("#exchange h3")).to_contain_text("HTTP 500")
    assert "<b>bold</b>" in seen(page) or kind == "long"
    page.goto(f"/dashboard/deliveries/{delivery}")
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    shown = seen(page)
    assert ("\\u202e" in shown) == ("\\u001b" in shown) == (kind == "unseen")
    assert kind != "printable" or SCRIPT + QUOTES in shown
    page.goto("/dashboard/overview")
    seen(page)
    said = quote(text[:3000])
    for query in (f"q={said}&said={said}", f"status={said}", f"cursor={said}", f"tenant={said}"):
        page.goto(f"/dashboard?{query}")
        seen(page)
    narrowed = "&".join(
        f"{name}={said}" for name in ("type", "code", "from", "time", "status", "tz", "attempt", "span")
    )
    for query in (narrowed[:7000], f"cursor={said}"):
        page.goto(f"/dashboard/webhooks/{id}?{query}")
        seen(page)
    page.goto(f"/dashboard/{json.dumps(text[:300])[1:-1]}")
    seen(page)


def test_a_page_stays_small_whatever_many_attempts_came_to(served, visitor, told):
    house = served()
    told.says["/hooks"] = answer(500, b"\"'<>" * 1000, *[f"x-h{number}: {'<v>' * 100}" for number in range(40)])
    house.admin.make(told.url("/hooks"), tenant="acme", retry=["24h"])
    house.admin.post("/v1/events", {"type": "a.b", "tenant": "acme", "data": "\"<&>'" * 40_000})
    told.wait_at("/hooks", 1)
    path = f"/v1/deliveries/{house.admin.data('/v1/deliveries')[0]['id']}"
    for number in range(1, 60):
        wait_for(lambda number=number: house.admin.get(path).json["attempt_count"] == number)
        assert house.admin.post(f"{path}/retry").status == 202
    wait_for(lambda: house.admin.get(path).json["attempt_count"] == 60)
    page = visitor(house).sign_in(house.admin.key_for("acme", "read").key)
    for query in ("", "?attempt=2", "?attempt=30"):
        page.goto(path.replace("/v1", "/dashboard") + query)
        seen(page)
        if query:
            expect(page.locator("#attempts")).to_contain_text(f"Attempt {query.partition('=')[2]}: HTTP 500")

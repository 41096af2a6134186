"""What does the dashboard cost? The first byte of each page over a large store, and deliveries beside live pages."""

import http.client
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import apsw

from benchmarks import rig, throughput
from hookrelay.store import open as opening

WEBHOOKS = 10_000
DELIVERIES = 1_000_000
PAGES_OPEN = 50
RUNS = 4
LOOKS = 15


def main() -> None:
    """Print both."""
    rig.need("nginx")
    print(f"dashboard: {rig.machine()}")
    _first_bytes()
    _beside_pages()


class Browser:
    """One connection to the dashboard, signed in."""

    def __init__(self, daemon: rig.Daemon, port: int, tenant: str, role: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        wish = json.dumps({"tenant": tenant, "role": role}).encode()
        key = json.loads(_post(daemon, "/v1/keys", wish))["key"]
        form = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://127.0.0.1:{port}"}
        self._connection.request("POST", "/dashboard/sign-in", urlencode({"key": key}), form)
        answer = self._connection.getresponse()
        answer.read()
        self.cookie = (answer.getheader("set-cookie") or "").partition(";")[0]

    def first_byte_ms(self, path: str) -> tuple[float, int]:
        """Milliseconds until the first byte of a page is there, and the page's size."""
        begun = time.perf_counter()
        self._connection.request("GET", path, headers={"cookie": self.cookie})
        answer = self._connection.getresponse()
        took_ms = (time.perf_counter() - begun) * 1000
        size = len(answer.read())
        if answer.status != 200:
            sys.exit(f"{path}: {answer.status}")
        return took_ms, size


def _post(daemon: rig.Daemon, path: str, body: bytes) -> bytes:
    import socket

    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(daemon.at / "api.sock"))
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse().read()
    connection.close()
    return answer


# --- first bytes ------------------------------------------------------------------------------------------------


def _first_bytes() -> None:
    port = rig.free_port()
    with rig.folder() as at:
        hooks = [
            rig.webhook(f"w{number}", f"http://127.0.0.1:9999/{number}", tenant=f"t{number % 200}", max_in_flight=1)
            for number in range(WEBHOOKS)
        ]
        for start in range(0, WEBHOOKS, 1000):
            rig.write_files(at, "", f'api.listen = ["unix:{at}/api.sock", "127.0.0.1:{port}"]')
            (at / "webhooks.d" / f"w{start}.toml").write_text("".join(hooks[start : start + 1000]))
        with rig.daemon(at):
            pass  # makes the store, and the webhooks' rows
        _fill(at / "hookrelay.db")
        with rig.daemon(at) as daemon:
            time.sleep(1)  # templates are compiled meanwhile
            browser = Browser(daemon, port, "*", "admin")
            own = Browser(daemon, port, "t0", "manage")
            heavy = json.loads(daemon.get("/v1/webhooks?q=127.0.0.1:9999/0")[1])["data"][0]["id"]
            rows = json.loads(daemon.get(f"/v1/webhooks/{heavy}/deliveries?limit=1")[1])["data"]
            cursor = json.loads(daemon.get("/v1/webhooks?limit=250")[1]).get("next_cursor") or ""
            paths = {
                "webhooks": "/dashboard",
                "webhooks, searched": "/dashboard?q=%2F77",
                "webhooks, nothing found": "/dashboard?q=nothing+like+it",
                "webhooks, a later page": f"/dashboard?cursor={cursor}",
                "add endpoint": "/dashboard/new",
                "endpoint": f"/dashboard/webhooks/{heavy}",
                "endpoint, 7 days": f"/dashboard/webhooks/{heavy}?span=7d",
                "endpoint, its failures": f"/dashboard/webhooks/{heavy}?status=failed",
                "endpoint, a rare code": f"/dashboard/webhooks/{heavy}?code=418",
                "replay": f"/dashboard/webhooks/{heavy}/replay",
                "deliveries": "/dashboard/deliveries",
                "deliveries, dead letters": "/dashboard/deliveries?status=failed",
                "deliveries, waiting": "/dashboard/deliveries?status=pending",
                "delivery": f"/dashboard/deliveries/{rows[0]['id']}",
                "overview": "/dashboard/overview",
            }
            for name, path in paths.items():
                _show(browser, name, path)
            _show(own, "a tenant's webhooks", "/dashboard")
            _show(own, "a tenant's deliveries", "/dashboard/deliveries")


def _show(browser: Browser, name: str, path: str) -> None:
    times, size = [], 0
    for _ in range(LOOKS):
        ms, size = browser.first_byte_ms(path)
        times.append(ms)
    print(
        f"  {name}: first byte {statistics.median(times):.1f} ms (first {times[0]:.1f}, worst {max(times):.1f}),"
        f" {size / 1024:.0f} KiB"
    )


def _fill(path: Path) -> None:
    """A history of so many deliveries in the last days, half of them of one webhook; one in fifty has failed."""
    now_ms = int(time.time() * 1000)
    opened = opening.open_file(path, max_size=10 << 30, now_ms=now_ms)
    conn = opened.writer
    with conn:
        conn.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
            " INSERT INTO event (seq, created_ms, tenant, type, timestamp, data)"
            " SELECT i, ?2 - (?1 - i) * 250, 't' || iif(i % 2, 0, i % 200), 'booking.created', '2026-01-01T00:00:00Z',"
            " x'7b7d' FROM n",
            (DELIVERIES, now_ms),
        )
        conn.execute(
            "INSERT INTO delivery (seq, event, webhook, created_ms, state, attempt_count, started_ms, duration_us,"
            " response_code, error_code, error_detail, completed_ms)"
            " SELECT seq, seq, iif(seq % 2, 1, seq % ? + 1), created_ms, iif(seq % 50, 'succeeded', 'failed'), 1,"
            " created_ms, 5000, iif(seq % 50, 200, 500), iif(seq % 50, NULL, 'http_status'), '', created_ms + 5"
            " FROM event",
            (WEBHOOKS,),
        )
        _fill_tally(conn, now_ms // 1000)
    conn.close()
    for each in (opened.marker, opened.lock):
        if each is not None:
            each.close()


def _fill_tally(conn: apsw.Connection, now: int) -> None:
    """Two days of every webhook, a week of the first, and of all together."""
    conn.execute(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 47),"
        " counters (counter) AS (VALUES (3), (4), (5), (133)) INSERT INTO tally"
        " SELECT 1800, ?1 / 1800 * 1800 - n.i * 1800, w.seq, counter, 5 FROM n, webhook AS w, counters",
        (now,),
    )
    conn.execute(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 383),"
        " counters (counter) AS (SELECT value FROM json_each('[3,4,5,6,7,8,9,10,70,71,133,134,200,260]'))"
        " INSERT OR IGNORE INTO tally SELECT 1800, ?1 / 1800 * 1800 - n.i * 1800, scope, counter, 5"
        " FROM n, counters, (SELECT 1 AS scope UNION SELECT 0)",
        (now,),
    )


# --- live pages -------------------------------------------------------------------------------------------------


def _beside_pages() -> None:
    """The throughput benchmark alone and beside live pages of the very webhook that it delivers to, in turns."""
    port = rig.free_port()
    alone: list[float] = []
    beside: list[float] = []
    with rig.folder() as at, rig.nginx(at) as (nginx_port, status):
        for number in range(RUNS):
            log = at / f"watch{number}"
            # first one, then the other: a machine that slows down would else blame it on whichever comes last
            for is_beside in (number % 2 == 0, number % 2 == 1):
                folder = at / f"{number}{is_beside}"
                extra = f'api.listen = ["unix:{folder}/api.sock", "127.0.0.1:{port}"]\n'
                if is_beside:
                    watched = partial(_watched, port, log)
                    rate, cpu_us = throughput.run(folder, at, nginx_port, status, extra=extra, beside=watched)
                    beside.append(rate)
                    print(f"    beside {rate:,.0f}/s, {cpu_us:.0f} µs each; {log.read_text().strip()}")
                else:
                    rate, cpu_us = throughput.run(folder, at, nginx_port, status, extra=extra)
                    alone.append(rate)
                    print(f"    alone {rate:,.0f}/s, {cpu_us:.0f} µs each")
    without, with_pages = statistics.median(alone), statistics.median(beside)
    pairs = statistics.median(b / a - 1 for a, b in zip(alone, beside, strict=True)) * 100
    print(
        f"  {PAGES_OPEN} live pages: {without:,.0f} → {with_pages:,.0f} deliveries/s"
        f" ({(with_pages / without - 1) * 100:+.1f} %, by the median of pairs {pairs:+.1f} %)"
    )


@contextmanager
def _watched(port: int, log: Path, daemon: rig.Daemon) -> Iterator[None]:
    (hook,) = json.loads(daemon.get("/v1/webhooks")[1])["data"]
    cookie = Browser(daemon, port, "*", "admin").cookie
    path = f"/dashboard/webhooks/{hook['id']}/live"
    command = [sys.executable, "-m", "benchmarks.watch", str(port), cookie, path, str(PAGES_OPEN)]
    with rig.process(command, rig.OTHER_CORE, log):
        time.sleep(1)
        yield


if __name__ == "__main__":
    main()

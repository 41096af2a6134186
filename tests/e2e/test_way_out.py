"""Where a daemon's deliveries go, and where they do not: rules at load, at every connection, and through a proxy."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from rig import Daemon, Receiver, hook, line, wait_for

Make = Callable[..., Daemon]
Listen = Callable[..., Receiver]


def explain(at: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hookrelay", "explain", "--config", str(at / "hookrelay.toml"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://10.1.2.3:8080/hook", '10.0.0.0/8 (private, RFC 1918); an operator may add "10.1.2.3/32:8080"'),
        ("http://169.254.169.254/latest", "cloud metadata"),
        ("http://[::ffff:127.0.0.1]:8080/", "egress.allow"),
        ("http://0x7f.1:8080/", "some would read as an address"),
        ("http://app:3000/", 'an operator may add "app:3000" to egress.allow'),
        ("http://127.0.0.1:22/", "below 1024"),
    ],
)
def test_a_url_that_is_refused_is_refused_when_its_file_is_loaded_with_the_rule_and_the_remedy(
    daemon: Make, url: str, said: str
):
    text = hook("bad", 1).replace("http://127.0.0.1:1/bad", url)
    settings = 'egress.allow = ["127.0.0.1/32:8080"]\n' if "app" in url else ""
    made = daemon(text, settings.replace("127.0.0.1/32:8080", "127.0.0.1/32:8081"))
    done = made.run()
    assert done.returncode == 78
    assert said in done.stderr
    assert "hooks.toml:3: webhook[0].url" in done.stderr


def test_a_daemon_that_allows_nothing_refuses_loopback(daemon: Make):
    done = daemon(hook("own", 8080), "egress.allow = []\n").run()
    assert done.returncode == 78
    assert 'loopback, RFC 1122); an operator may add "127.0.0.1/32:8080" to egress.allow' in done.stderr


def test_a_name_that_leads_to_a_blocked_address_ends_as_egress_blocked_and_no_packet_is_sent(
    daemon: Make, receiver: Listen
):
    shop = receiver()
    url = f"http://localhost:{shop.port}/shop"
    text = hook("shop", shop.port, retry=[]).replace(f"http://127.0.0.1:{shop.port}/shop", url)
    # the rule lets the name's text pass: its other address, the one that is listened on, is not covered
    made = daemon(text, f'egress.allow = ["[::1/128]:{shop.port}"]\negress.deny = ["127.0.0.0/8"]\n').start()
    made.submit(line(1))
    wait_for(lambda: made.metric('hookrelay_attempts_total{outcome="egress_blocked"}') == 1, told=made.log)
    wait_for(lambda: made.deliveries("shop")[0]["error"])  # counted a moment before it is on disk
    (failed,) = made.deliveries("shop")
    assert failed["error"]["code"] == "egress_blocked"
    assert "egress.deny: 127.0.0.0/8" in failed["error"]["detail"]  # an administrator asks
    assert "127.0.0.1, which is refused by egress.deny: 127.0.0.0/8" in made.log()
    assert shop.connections == 0
    told = explain(made.at, url)
    assert told.returncode == 1
    assert "egress_blocked" in told.stdout


def test_a_name_server_that_never_answers_is_noticed_by_nobody_but_the_names_asked_for(daemon: Make, receiver: Listen):
    shop = receiver()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as black_hole:
        black_hole.bind(("127.0.0.1", 0))
        lost = "".join(
            hook(f"lost{number}", 8443, retry=[]).replace("http://127.0.0.1", f"https://lost{number}.example")
            for number in range(100)
        )
        port = black_hole.getsockname()[1]
        made = daemon(lost + hook("shop", shop.port), f'egress.resolver = "127.0.0.1:{port}"\n').start()
        took = []
        for number in range(20):
            started = time.monotonic()
            made.submit(line(number))
            shop.wait(number + 1)
            assert made.get("/-/ready").status == 200
            took.append(time.monotonic() - started)
        assert sorted(took)[15] < 0.5
        wait_for(lambda: made.metric('hookrelay_attempts_total{outcome="dns_error"}') >= 100, told=made.log)
        assert made.metric('hookrelay_attempts_total{outcome="success"}') == 20
        (failed, *_) = made.deliveries("lost7")
        assert failed["error"]["code"] == "dns_error"
        assert "lost7.example" in failed["error"]["detail"]


class Proxy:
    """An HTTP proxy that tunnels: `asked` is whom it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(sock,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            method, where, _ = head.split(b" ", 2)
            self.asked.append(f"{method.decode()} {where.decode()}")
            host, _, port = where.decode().rpartition(":")
            with socket.create_connection((host, int(port))) as far:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = threading.Thread(target=_pump, args=(far, client), daemon=True)
                back.start()
                _pump(client, far)
                back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def secure(text: str) -> str:
    return text.replace("http://127.0.0.1", "https://localhost")


def test_deliveries_go_through_the_proxy_to_the_address_that_was_vetted(
    daemon: Make, receiver: Listen, proxy: Proxy, authority: trustme.CA
):
    shop = receiver(tls=tls(authority))
    settings = 'egress.ca_file = "ca.pem"\negress.allow = ["localhost"]\n'
    made = daemon(secure(hook("shop", shop.port)), settings + f'egress.proxy = "http://me:pass@127.0.0.1:{proxy.port}"')
    made.start()
    made.submit(*[line(number) for number in range(5)])
    shop.wait(5)
    made.settled()
    assert {asked.rpartition(":")[0] for asked in proxy.asked} <= {"CONNECT 127.0.0.1", "CONNECT [::1]"}
    assert sorted(json.loads(request.body)["data"]["number"] for request in shop.requests) == list(range(5))
    assert shop.requests[0].headers["host"] == f"localhost:{shop.port}"
    assert "pass" not in made.log()


def test_a_proxy_that_is_away_is_our_trouble_and_uses_up_no_attempt(
    daemon: Make, receiver: Listen, proxy: Proxy, authority: trustme.CA
):
    shop = receiver(tls=tls(authority))
    settings = 'egress.ca_file = "ca.pem"\negress.allow = ["localhost"]\n'
    made = daemon(secure(hook("shop", shop.port, retry=[])), settings + 'egress.proxy = "http://127.0.0.1:9"').start()
    made.submit(line(1))
    wait_for(lambda: made.metric('hookrelay_attempts_total{outcome="local_fault"}') >= 2, told=made.log)
    assert made.deliveries("shop")[0]["status"] == "pending"
    made.config.write_text(made.config.read_text().replace("127.0.0.1:9", f"127.0.0.1:{proxy.port}"))
    made.tell(signal.SIGHUP)
    shop.wait(1)
    made.settled()
    assert made.deliveries("shop")[0]["status"] == "succeeded"


def test_a_webhook_s_own_authority_is_trusted_for_it_alone(daemon: Make, receiver: Listen, authority: trustme.CA):
    own, other = receiver(tls=tls(authority)), receiver(tls=tls(authority))
    text = secure(hook("own", own.port, ca_file="../ca.pem") + hook("other", other.port, retry=[]))
    made = daemon(text, 'egress.allow = ["localhost"]\n').start()
    made.submit(line(1))
    own.wait(1)
    made.settled()
    (failed,) = made.deliveries("other")
    assert failed["error"]["code"] == "tls_error"
    assert "certificate" in failed["error"]["detail"]
    assert other.requests == []


def test_a_certificate_that_cannot_be_used_is_a_mistake_of_the_configuration(daemon: Make, tmp_path: Path):
    authority = trustme.CA()
    one, two = authority.issue_cert("a.example"), authority.issue_cert("b.example")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "one.pem"))
    two.private_key_pem.write_to_path(str(tmp_path / "two.key"))
    text = hook("shop", 8443, client_cert_file="../one.pem", client_key_file="../two.key")
    done = daemon(text).run()
    assert done.returncode == 78
    assert "does not belong to the certificate" in done.stderr

"""`hookrelay explain`: each step, the rule that decides, and the exit code; nothing is sent to the receiver."""

import base64
import socket
import threading

import pytest
import trustme
from click.testing import CliRunner
from dnslib import AAAA, QTYPE, RR, A, DNSRecord

from hookrelay.cli.explain import command
from hookrelay.config import load


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "DEFAULT_PATH", tmp_path / "hookrelay.toml")
    (tmp_path / "hookrelay.toml").write_text("")
    (tmp_path / "webhooks.d").mkdir()
    return tmp_path / "hookrelay.toml"


@pytest.fixture
def name_server():
    """Knows `two.example` and `inside.example`; `asked` holds what was asked for."""
    records = {"two.example.": ["8.8.8.8", "2a00::1"], "inside.example.": ["8.8.8.8", "fd00::1"]}
    asked: set[str] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve():
            while True:
                query, peer = sock.recvfrom(4096)
                if not query:
                    return
                question = DNSRecord.parse(query)
                name = str(question.q.qname)
                asked.add(name)
                reply = question.reply()
                reply.header.rcode = 0 if name in records else 3
                for address in records.get(name, []):
                    kind, data = ("AAAA", AAAA) if ":" in address else ("A", A)
                    if question.q.qtype == getattr(QTYPE, kind):
                        reply.add_answer(RR(name, question.q.qtype, rdata=data(address)))
                sock.sendto(reply.pack(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1], asked
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ender:
            ender.sendto(b"", sock.getsockname())
        thread.join()


def explain(*arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def steps(result):
    return [line.split()[0] for line in result.stdout.splitlines() if not line.startswith(" ")]


def webhook(**said):
    secret = base64.b64encode(bytes(32)).decode()
    fields = {"name": "one", "url": "https://two.example/in?token=hunter2", "secret": f"whsec_{secret}", **said}
    return "[[webhook]]\nevents = ['*']\n" + "".join(f"{key} = '{value}'\n" for key, value in fields.items())


def test_every_step_of_a_delivery_that_would_go_out(config_file):
    result = explain("https://hooks.example/x", "--address", "8.8.8.8", "--address", "2a00::1")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1 text     right: https to hooks.example, port 443",
        "2 name     hooks.example: allowed: public",
        "3 look-up  none: taken from --address: 8.8.8.8, 2a00::1",
        "4 address  8.8.8.8: allowed: public",
        "           2a00::1: allowed: public",
        "5 route    direct: egress.proxy is not set",
        "6 trust    TLS 1.2 or newer, verified against the system's authorities",
        "verdict: yes: a delivery would go out",
    ]


def test_one_refused_address_refuses_all_and_every_ruling_is_shown(config_file):
    result = explain("https://hooks.example/", "--address", "10.1.2.3", "--address", "8.8.8.8")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[3:] == [
        "4 address  10.1.2.3: refused by built-in: 10.0.0.0/8 (private, RFC 1918); an operator may add "
        '"10.1.2.3/32:443" to egress.allow',
        "           8.8.8.8: allowed: public",
        "verdict: no: an attempt would end as egress_blocked: one refused address refuses all",
    ]


@pytest.mark.parametrize(
    ("url", "step", "telling"),
    [
        ("http://hooks.example/", "1", "egress.allow_http = false"),
        ("https://127.1/", "1", "some would read as an address"),
        ("https://①.example/", "1", "IDNA 2008"),
        ("https://hooks.example:22/", "1", '"hooks.example:22" to egress.allow'),
        ("https://localhost/", "2", '"localhost:443" to egress.allow'),
        ("https://billing.internal/", "2", "*.internal"),
        ("https://10.1.2.3/", "4", "10.0.0.0/8 (private, RFC 1918)"),
        ("https://[::1]:8443/", "4", '"[::1/128]:8443" to egress.allow'),
    ],
)
def test_a_refused_url_ends_at_the_step_that_refuses_it(config_file, url, step, telling):
    result = explain(url)
    assert result.exit_code == 1
    assert steps(result)[-2:] == [step, "verdict:"]
    assert telling in result.stdout
    assert "verdict: no: a webhook with this URL is refused when it is made" in result.stdout


def test_what_the_configuration_opens_goes_out_by_that_rule(config_file):
    config_file.write_text("[egress]\nallow_http = true\nallow = ['127.0.0.1/32:8080', '*.internal']\n")
    result = explain("http://127.0.0.1:8080/")
    assert result.exit_code == 0
    assert "127.0.0.1: allowed: egress.allow: 127.0.0.1/32:8080" in result.stdout
    assert "6 trust    none: http" in result.stdout
    result = explain("https://billing.internal/", "--address", "10.1.2.3", "--config", config_file)
    assert result.exit_code == 0
    assert "billing.internal: allowed: egress.allow: *.internal" in result.stdout
    assert "10.1.2.3: allowed: egress.allow: *.internal" in result.stdout


def test_a_name_is_looked_up_at_the_name_server_of_the_configuration(config_file, name_server):
    port, asked = name_server
    config_file.write_text(f"[egress]\nresolver = '127.0.0.1:{port}'\n")
    result = explain("https://two.example/")
    assert result.exit_code == 0
    assert f"3 look-up  8.8.8.8, 2a00::1, by egress.resolver 127.0.0.1:{port}" in result.stdout
    assert asked == {"two.example."}


def test_a_name_that_leads_inside_is_refused(config_file, name_server):
    config_file.write_text(f"[egress]\nresolver = '127.0.0.1:{name_server[0]}'\n")
    result = explain("https://inside.example/")
    assert result.exit_code == 1
    assert '"[fd00::1/128]:443" to egress.allow' in result.stdout


def test_a_name_that_is_unknown_is_told_with_what_the_attempt_would_end_as(config_file, name_server):
    config_file.write_text(f"[egress]\nresolver = '127.0.0.1:{name_server[0]}'\n")
    result = explain("https://nowhere.example/")
    assert result.exit_code == 1
    assert "3 look-up  failed, by egress.resolver" in result.stdout
    assert result.stdout.endswith("verdict: no: an attempt would end now as dns_error\n")


@pytest.mark.parametrize(
    ("url", "more"), [("https://localhost/", ()), ("https://two.example/", ("--address", "8.8.8.8"))]
)
def test_no_name_server_is_asked_where_the_name_is_refused_or_addresses_are_given(config_file, name_server, url, more):
    port, asked = name_server
    config_file.write_text(f"[egress]\nresolver = '127.0.0.1:{port}'\n")
    explain(url, *more)
    assert asked == set()


def test_the_proxy_is_named_without_its_password(config_file):
    config_file.write_text("[egress]\nproxy = 'http://user:hunter2@proxy.example:3128'\n")
    result = explain("https://8.8.8.8/")
    assert "5 route    through egress.proxy http://***@proxy.example:3128" in result.stdout
    assert "hunter2" not in result.output


def test_trust_is_that_of_the_webhooks_with_this_url(config_file):
    hooks = config_file.parent / "webhooks.d"
    trustme.CA().cert_pem.write_to_path(hooks / "ca.pem")
    (hooks / "a.toml").write_text(webhook(ca_file="ca.pem") + webhook(name="two", url="https://other.example/"))
    result = explain("https://two.example/in?token=hunter2", "--address", "8.8.8.8")
    assert result.exit_code == 0
    assert "(file:a.toml): TLS 1.2 or newer, verified against the system's authorities and those of" in result.stdout
    assert f"{hooks}/ca.pem" in result.stdout
    assert "hunter2" not in result.output
    assert "ca.pem" not in explain("https://two.example/", "--address", "8.8.8.8").stdout


def test_files_that_tls_cannot_rest_on_are_told(config_file):
    hooks = config_file.parent / "webhooks.d"
    authority = trustme.CA()
    authority.issue_cert("a.example").cert_chain_pems[0].write_to_path(hooks / "cert.pem")
    authority.issue_cert("b.example").private_key_pem.write_to_path(hooks / "key.pem")
    (hooks / "a.toml").write_text(webhook(client_cert_file="cert.pem", client_key_file="key.pem"))
    result = explain("https://two.example/in?token=hunter2", "--address", "8.8.8.8")
    assert result.exit_code == 1
    assert "the key does not belong to the certificate" in result.stdout
    assert result.stdout.endswith("verdict: no: an attempt would end as local_fault\n")


def test_an_international_name_is_shown_as_typed_beside_its_ascii_form(config_file):
    result = explain("https://bücher.example?token=hunter2", "--address", "8.8.8.8")
    assert "https to xn--bcher-kva.example (bücher.example as typed), port 443" in result.stdout
    assert "hunter2" not in result.output


def test_control_characters_are_shown_as_escapes(config_file):
    result = explain("https://a\x1b[31m.example/\u202e")
    assert result.exit_code == 1
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_mistakes_in_the_configuration_end_it_first(config_file):
    config_file.write_text("[egress]\nallow = 1\nproxy = 'https://u:hunter2@p'\n")
    result = explain("https://hooks.example/")
    assert (result.exit_code, result.stdout) == (78, "")
    assert f"{config_file}:2: egress.allow: expected a list of networks" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert "hunter2" not in result.output


@pytest.mark.parametrize("arguments", [(), ("https://a.example/", "--address", "a.example"), ("a", "b")])
def test_wrong_usage_is_told(config_file, arguments):
    result = explain(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_help_shows_examples_and_exit_codes():
    result = explain("--help")
    assert result.exit_code == 0
    assert "hookrelay explain https://hooks.example.com/in" in result.stdout
    assert "78 a mistake in the configuration" in result.stdout


def test_a_url_is_explained_as_it_would_be_kept(config_file):
    result = explain(" HTTPS://8.8.8.8/x\n", "--config", config_file)
    assert (result.exit_code, "right: https to 8.8.8.8, port 443" in result.stdout) == (0, True)

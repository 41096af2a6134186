"""What TLS to a webhook rests on: files named beside it, found and looked into before anything depends on them."""

import base64
import os

import pytest
import trustme

from hookrelay.config.load import load
from hookrelay.model import ConfigError, Trust

KEY = "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def block(label, body="AAAA"):
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hookrelay.toml").write_text("")
    hooks = tmp_path / "webhooks.d"
    (hooks / "pem").mkdir(parents=True)
    (hooks / "ca.pem").write_text(CERTIFICATE)
    (hooks / "cert.pem").write_text(CERTIFICATE * 2)
    (hooks / "key.pem").write_text(KEY)
    (hooks / "pem" / "both.pem").write_text(CERTIFICATE + KEY)
    return hooks


def trust_of(folder, **said):
    secret = base64.b64encode(bytes(32)).decode()
    lines = ['name = "one"', 'url = "https://example.com/"', 'events = ["*"]', f'secret = "whsec_{secret}"']
    lines += [f"{key} = '{value}'" for key, value in said.items()]
    (folder / "a.toml").write_text("\n".join(["[[webhook]]", *lines, ""]))
    [webhook] = load(folder.parent / "hookrelay.toml", {}).webhooks
    return webhook.trust


def mistakes_of(folder, **said):
    with pytest.raises(ConfigError) as error:
        trust_of(folder, **said)
    assert {mistake.file for mistake in error.value.mistakes} == {str(folder / "a.toml")}
    return [(mistake.line, mistake.key, mistake.detail) for mistake in error.value.mistakes]


def test_a_webhook_that_names_no_files_has_no_trust_of_its_own(folder):
    assert trust_of(folder) is None


def test_paths_start_from_the_folder_of_the_webhook_s_file(folder):
    assert trust_of(folder, ca_file="ca.pem", client_cert_file="cert.pem", client_key_file="key.pem") == Trust(
        str(folder / "ca.pem"), str(folder / "cert.pem"), str(folder / "key.pem")
    )
    assert trust_of(folder, ca_file=folder / "ca.pem") == Trust(str(folder / "ca.pem"))


def test_a_certificate_s_file_may_hold_its_key(folder):
    assert trust_of(folder, client_cert_file="pem/both.pem") == Trust(None, str(folder / "pem" / "both.pem"))


def test_what_a_certificate_authority_hands_out_is_right(folder):
    authority = trustme.CA()
    own = authority.issue_cert("hookrelay.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    own.private_key_pem.write_to_path(folder / "key.pem")
    assert trust_of(folder, ca_file="ca.pem", client_cert_file="cert.pem", client_key_file="key.pem") is not None


@pytest.mark.parametrize(
    ("key", "content", "telling"),
    [
        ("ca_file", None, "there is no such file: create it, or name another"),
        ("ca_file", "", "holds no certificate: write PEM into it, which begins with -----BEGIN CERTIFICATE-----"),
        ("ca_file", KEY, "holds no certificate"),
        ("ca_file", block("CERTIFICATE", "hunter2!"), "damaged"),
        ("ca_file", block("CERTIFICATE", ""), "damaged"),
        ("ca_file", CERTIFICATE + block("CERTIFICATE", "hunter2"), "damaged"),
        ("ca_file", CERTIFICATE.replace("END", "FIN"), "holds no certificate"),
        ("ca_file", CERTIFICATE + "x" * (4 << 20), "longer than 4 MiB"),
        ("client_cert_file", KEY, "holds no certificate"),
        ("client_key_file", CERTIFICATE, "holds no private key: write PEM into it"),
        ("client_key_file", block("PRIVATE KEY", "hunter2"), "damaged"),
        ("client_key_file", block("ENCRYPTED PRIVATE KEY"), "store it without one"),
        ("client_key_file", block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nAAAA"), "store it without one"),
    ],
)
def test_a_file_without_the_right_pem_is_told_by_key_and_line_and_without_its_text(folder, key, content, telling):
    if content is not None:
        (folder / "wrong.pem").write_text(content)
    others = {"client_cert_file": "cert.pem", "client_key_file": "key.pem"} if key != "ca_file" else {}
    said = {**others, key: "wrong.pem"}
    [(line, told, detail)] = mistakes_of(folder, **said)
    assert (line, told) == (6 + list(said).index(key), f"webhook[0].{key}")
    assert "wrong.pem" in detail
    assert telling in detail
    assert "hunter2" not in detail
    assert "aHVudGVyMg" not in detail


def test_a_certificate_without_a_key_is_told(folder):
    [(line, key, detail)] = mistakes_of(folder, client_cert_file="cert.pem")
    assert (line, key) == (6, "webhook[0].client_cert_file")
    assert "holds no private key" in detail


def test_a_key_without_its_certificate_is_told(folder):
    assert mistakes_of(folder, client_key_file="key.pem") == [
        (
            6,
            "webhook[0].client_key_file",
            "stands without a client_cert_file: name the certificate that it belongs to as client_cert_file",
        )
    ]


def test_a_pipe_is_no_pem_and_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    [(_, _, detail)] = mistakes_of(folder, ca_file="pipe")
    assert detail.endswith("name a file")


def test_every_wrong_file_is_told_at_once(folder):
    told = mistakes_of(folder, ca_file="a", client_cert_file="b", client_key_file="c", status="off")
    assert [key for _, key, _ in told] == [
        *("webhook[0].ca_file", "webhook[0].client_cert_file", "webhook[0].client_key_file", "webhook[0].status"),
    ]

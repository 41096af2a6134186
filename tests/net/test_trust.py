"""Which certificates TLS rests on, and what is said of files that it cannot (THREATS §1 Connecting)."""

import resource
import ssl
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from cryptography.hazmat.primitives import serialization

from hookrelay.model import Trust
from hookrelay.net import trust
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.trust import Trusts, check

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("hookrelay.example")


def locked_key() -> bytes:
    key = serialization.load_pem_private_key(CERTIFICATE.private_key_pem.bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with `ca.pem`, `cert.pem`, `key.pem`, `both.pem`, and several that are no good."""
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    CERTIFICATE.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    CERTIFICATE.private_key_pem.write_to_path(tmp_path / "key.pem")
    CERTIFICATE.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    AUTHORITY.issue_cert("other.example").private_key_pem.write_to_path(tmp_path / "other_key.pem")
    (tmp_path / "locked_key.pem").write_bytes(locked_key())
    (tmp_path / "empty.pem").touch()
    (tmp_path / "junk.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "directory.pem").mkdir()
    return tmp_path


def names(context: ssl.SSLContext) -> set[object]:
    return {entry["serialNumber"] for entry in context.get_ca_certs()}


async def test_a_context_verifies_and_speaks_tls_1_2_or_newer(files):
    for context in (await Trusts().context(None), await Trusts().context(Trust(str(files / "ca.pem")))):
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_files_add_trust_to_the_systems(files, tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "webhook_ca.pem")
    system = names(await Trusts().context(None))
    egress = names(await Trusts(str(files / "ca.pem")).context(None))
    both = names(await Trusts(str(files / "ca.pem")).context(Trust(str(tmp_path / "webhook_ca.pem"))))
    assert system == names(ssl.create_default_context())
    assert system < egress < both
    assert len(both) == len(system) + 2


async def test_no_file_of_session_keys_is_written_whatever_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = await Trusts().context(None)
    assert getattr(context, "keylog_filename", None) is None


async def test_equal_trust_has_one_context_and_is_built_once_however_many_ask(files, monkeypatch):
    built = []

    def build(ca_file: str | None, of: Trust) -> ssl.SSLContext:
        built.append(of)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(trust, "_built", build)
    trusts = Trusts()
    contexts: list[ssl.SSLContext] = []

    async def use(of: Trust | None) -> None:
        contexts.append(await trusts.context(of))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(use, None)
            nursery.start_soon(use, Trust(str(files / "ca.pem")))
    assert len(set(map(id, contexts))) == 2
    assert sorted(map(str, built)) == sorted(map(str, [Trust(), Trust(str(files / "ca.pem"))]))


async def test_who_is_cancelled_while_a_context_is_built_does_not_take_it_from_others(monkeypatch):
    begun, released = trio.Event(), threading.Event()
    built: list[Trust] = []

    def build(ca_file: str | None, of: Trust) -> ssl.SSLContext:
        built.append(of)
        if len(built) == 1:
            trio.from_thread.run_sync(begun.set)
            released.wait(5)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(trust, "_built", build)
    trusts = Trusts()
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def use() -> None:
            with first:
                await trusts.context(None)

        nursery.start_soon(use)
        await begun.wait()
        nursery.start_soon(trusts.context, None)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        with trio.fail_after(1):
            await trusts.context(None)
    released.set()
    assert first.cancelled_caught
    assert len(built) == 2


async def test_contexts_are_bounded_and_one_that_was_given_up_is_built_anew(files, monkeypatch):
    monkeypatch.setattr(trust, "CONTEXTS_KEPT", 2)
    trusts = Trusts()
    first = await trusts.context(None)
    for name in ("ca.pem", "cert.pem"):
        await trusts.context(Trust(str(files / name)))
    assert len(trusts._contexts) == 2
    assert await trusts.context(None) is not first


async def test_a_file_that_has_gone_is_a_local_fault_until_it_is_back(files):
    path = files / "ca.pem"
    trusts = Trusts()
    path.rename(files / "away.pem")
    with pytest.raises(AttemptFailure) as told:
        await trusts.context(Trust(str(path)))
    assert (told.value.code, told.value.detail) == ("local_fault", f"{path}: No such file or directory")
    (files / "away.pem").rename(path)
    assert await trusts.context(Trust(str(path)))


async def test_without_descriptors_no_context_is_made_that_trusts_nobody(files, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(files / "ca.pem"))  # stands for the system's
    trusts = Trusts()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(AttemptFailure) as told:
            await trusts.context(None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert told.value.code == "local_fault"
    assert "Too many open files" in told.value.detail
    assert (await trusts.context(None)).cert_store_stats()["x509_ca"] == 1


async def test_a_host_that_can_start_no_thread_is_a_local_fault(monkeypatch):
    async def no_thread(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
    with pytest.raises(AttemptFailure) as told:
        await Trusts().context(None)
    assert told.value.code == "local_fault"


@pytest.mark.parametrize(
    ("ca_file", "cert_file", "key_file"),
    [
        (None, None, None),
        ("ca.pem", None, None),
        ("ca.pem", "cert.pem", "key.pem"),
        (None, "both.pem", None),
    ],
)
def test_files_that_tls_can_rest_on_pass(files, ca_file, cert_file, key_file):
    def path(name: str | None) -> str | None:
        return name and str(files / name)

    assert check(path(ca_file), Trust(path(ca_file), path(cert_file), path(key_file))) is None
    assert check(path(ca_file), None) is None


@pytest.mark.parametrize(
    ("ca_file", "cert_file", "key_file", "blamed", "told"),
    [
        ("nowhere.pem", None, None, "nowhere.pem", "No such file"),
        ("directory.pem", None, None, "directory.pem", "Is a directory"),
        ("empty.pem", None, None, "empty.pem", "no certificate can be read"),
        ("junk.pem", None, None, "junk.pem", "no certificate can be read"),
        ("key.pem", None, None, "key.pem", "no certificate can be read"),
        (None, "nowhere.pem", "key.pem", "nowhere.pem", "No such file"),
        (None, "cert.pem", "nowhere.pem", "nowhere.pem", "No such file"),
        (None, "junk.pem", "key.pem", "junk.pem", "should hold PEM"),
        (None, "cert.pem", "empty.pem", "empty.pem", "should hold PEM"),
        (None, "cert.pem", None, "cert.pem", "should hold PEM"),
        (None, "cert.pem", "other_key.pem", "other_key.pem", "does not belong to the certificate"),
        (None, "cert.pem", "locked_key.pem", "locked_key.pem", "has a password"),
    ],
)
def test_a_file_that_is_no_good_is_named_with_what_is_wrong(files, ca_file, cert_file, key_file, blamed, told):
    def path(name: str | None) -> str | None:
        return name and str(files / name)

    of_webhook = check(None, Trust(path(ca_file), path(cert_file), path(key_file)))
    assert of_webhook is not None
    assert str(files / blamed) in of_webhook
    assert told in of_webhook
    if ca_file is not None:
        assert check(path(ca_file), None) == of_webhook

"""What TLS to a webhook rests on: one `SSLContext` for each trust configuration, built from files when first used."""

import ssl
from contextlib import suppress
from pathlib import Path

import trio

from hookrelay.model import Trust
from hookrelay.net.failure import AttemptFailure

CONTEXTS_KEPT = 64
"""Each takes 0.8 MiB with the system's authorities, and 30 ms to build."""
BUILDS_AT_ONCE = 2


class Trusts:
    """The contexts of all webhooks: the system's authorities, those of `ca_file`, and what each webhook adds.

    Files are read once. For what has changed in them since, make a new one.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._contexts: dict[Trust, ssl.SSLContext] = {}
        self._locks: dict[Trust, trio.Lock] = {}
        self._builds = trio.CapacityLimiter(BUILDS_AT_ONCE)

    async def context(self, trust: Trust | None) -> ssl.SSLContext:
        """The context for `trust`, the same for the same value.

        AttemptFailure (`local_fault`) names the file that cannot be loaded; the next call tries again.
        """
        key = trust or Trust()
        context = self._contexts.get(key)
        if context is not None:
            return context
        lock = self._locks.setdefault(key, trio.Lock())
        has_begun = False

        def build() -> ssl.SSLContext:
            nonlocal has_begun
            has_begun = True
            return _built(self._ca_file, key)

        try:
            async with lock:
                if key not in self._contexts:
                    # in a thread: the loop would stand still for as long as some 50 deliveries take
                    self._keep(
                        key,
                        await trio.to_thread.run_sync(build, limiter=self._builds, abandon_on_cancel=True),
                    )
                return self._contexts[key]
        except _Unusable as error:
            raise AttemptFailure("local_fault", str(error)) from error
        except RuntimeError as error:
            if has_begun:
                raise
            raise AttemptFailure("local_fault", "agreeing on TLS: no thread could be started") from error

    def _keep(self, key: Trust, context: ssl.SSLContext) -> None:
        if len(self._contexts) >= CONTEXTS_KEPT:
            del self._contexts[next(iter(self._contexts))]
        self._contexts[key] = context


def check(ca_file: str | None, trust: Trust | None) -> str | None:
    """What is wrong with these files, and what would be right; None where TLS can rest on them. Reads them now."""
    try:
        _load(_bare(), ca_file, trust or Trust())
    except _Unusable as error:
        return str(error)
    return None


def authorities() -> tuple[int, str]:
    """How many certificates the system's authorities have, and where they stand. Reads them now."""
    places = ssl.get_default_verify_paths()
    context = _bare()
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    count = len(context.get_ca_certs())
    if not count and places.capath is not None:  # a folder is looked into when a certificate is checked
        with suppress(OSError):
            count = sum(1 for each in Path(places.capath).iterdir() if each.suffix == ".0")
    return count, places.cafile or places.capath or places.openssl_cafile


class _Unusable(Exception):
    """A file that no trust can be taken from; its text is for the operator."""


def _built(ca_file: str | None, trust: Trust) -> ssl.SSLContext:
    context = _bare()
    _load(context, ca_file, trust)  # first: where a file is bad, the costly part is spared
    _load_system(context)
    return context


def _load_system(context: ssl.SSLContext) -> None:
    """The system's authorities. OpenSSL says nothing where it cannot open their file: then it is _Unusable."""
    file = ssl.get_default_verify_paths().cafile
    before = context.cert_store_stats()["x509_ca"]
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if file is not None and context.cert_store_stats()["x509_ca"] == before:
        try:
            context.load_verify_locations(cafile=file)
        except ssl.SSLError:
            pass  # it holds none
        except OSError as error:
            raise _Unusable(f"{file}: {error.strerror} (this host's limit, not the receiver's fault)") from error


def _bare() -> ssl.SSLContext:
    # not `create_default_context`: that writes session keys to a file where the environment names one
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, ca_file: str | None, trust: Trust) -> None:
    for path in dict.fromkeys((ca_file, trust.ca_file)):
        if path is not None:
            _check_readable(path)
            try:
                context.load_verify_locations(cafile=path)
            except (OSError, ValueError) as error:
                raise _Unusable(f"{path}: no certificate can be read from it; it should hold PEM") from error
    if trust.cert_file is not None:
        _load_own(context, trust.cert_file, trust.key_file)


def _load_own(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    where = key_file or cert_file
    for path in (cert_file, where):
        _check_readable(path)
    try:
        context.load_cert_chain(cert_file, where, password=_no_password)
    except _Unusable as error:
        raise _Unusable(f"{where}: the key has a password; store it without one, readable by hookrelay only") from error
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise _Unusable(f"{where}: the key does not belong to the certificate in {cert_file}") from error
        raise _Unusable(
            f"{cert_file}, {where}: no certificate and key can be read from there; they should hold PEM,"
            " the certificate first in its file"
        ) from error


def _check_readable(path: str) -> None:
    """The ssl module does not say which of two files is missing."""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise _Unusable(f"{path}: {error.strerror}") from error


def _no_password() -> str:
    # without this, OpenSSL would ask for one on the terminal and wait
    raise _Unusable("the key has a password")

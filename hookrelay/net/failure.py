"""How an attempt fails on the wire: the one exception of `net/`, and where foreign ones are turned into it."""

import errno
import os
import ssl

from hookrelay.model import AttemptError

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
_RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})


class AttemptFailure(Exception):
    """The attempt ends here; never leaves `net/`."""

    def __init__(self, code: AttemptError, detail: str, reason: str = "") -> None:
        super().__init__(detail)
        self.code: AttemptError = code
        self.detail = detail
        self.reason = reason
        """What operators are told in place of that, and tenants are not."""


def of_os_error(error: OSError, doing: str) -> AttemptFailure:
    """What an operating-system error means while `doing` (`"connecting"`, `"sending"` …)."""
    if isinstance(error, ssl.SSLError):
        return AttemptFailure("tls_error", tls_detail(error))
    number = error.errno or 0
    text = os.strerror(number) if number else str(error) or type(error).__name__
    if number in _NO_ROOM:
        return AttemptFailure("local_fault", f"{doing}: {text} (this host's limit, not the receiver's fault)")
    if doing == "connecting":
        if number == errno.ECONNREFUSED:
            return AttemptFailure("connect_refused", "nothing listens at that address and port")
        if number == errno.ETIMEDOUT:
            return AttemptFailure("connect_timeout", "no answer to the connection request")
        return AttemptFailure("connect_error", text)
    if number in _RESET:
        return AttemptFailure("reset", f"the receiver reset the connection while {doing}")
    return AttemptFailure("connect_error", f"{doing}: {text}")


def tls_detail(error: ssl.SSLError) -> str:
    """What was wrong with the handshake, in words for a receiver's developer."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "the receiver closed the connection during the TLS handshake"
    reason = (error.reason or "").replace("_", " ").lower()
    return f"the TLS handshake failed: {reason or error}"

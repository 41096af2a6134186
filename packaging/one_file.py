"""Where the one-file build starts: the `hookrelay` command, in a child of PyInstaller's bootloader.

The bootloader is the process that a service manager or a shell has started. It unpacks, passes signals on to this
child, waits for it, and ends with its exit code. What the manager says to it is meant for this process.
"""

import ctypes
import os
import signal
import ssl
import sys

PR_SET_PDEATHSIG = 1
CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Of Debian, of Fedora, of SUSE, of Alpine and Arch: the OpenSSL inside knows only where it was built."""


def take_over() -> None:
    """Be the process that the manager has started, as far as can be: take its sockets, feed its watchdog, and drain
    where the bootloader is killed, for nobody would know of this process any more."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for name in ("LISTEN_PID", "WATCHDOG_PID"):
        if os.environ.get(name) == str(os.getppid()):
            os.environ[name] = str(os.getpid())
    if sys.argv[1:2] == ["serve"]:
        # a terminal's Ctrl-C would come twice, from it and passed on: the second one means "at once"
        os.setpgid(0, 0)


def find_certificates() -> None:
    """Where the host keeps its certificate authorities, unless OpenSSL finds some or was told."""
    known = ssl.get_default_verify_paths()
    if known.cafile is None and not (known.capath is not None and os.listdir(known.capath)):
        found = next((path for path in CERTIFICATES if os.path.exists(path)), None)
        if found is not None:
            os.environ["SSL_CERT_FILE"] = found


if __name__ == "__main__":
    take_over()
    find_certificates()
    if sys.argv[1:3] == ["-m", "hookrelay"]:  # how a program starts itself again by `sys.executable`
        del sys.argv[1:3]
    from hookrelay.cli.main import main

    main()

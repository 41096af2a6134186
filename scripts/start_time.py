"""Say how long a hookrelay takes to start, best of three: python scripts/start_time.py dist/hookrelay"""

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRIES = 3
PATIENCE_S = 60


def version(program: str) -> float:
    """Seconds that `hookrelay version` takes."""
    started = time.monotonic()
    subprocess.run([program, "version"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- the program in question
    return time.monotonic() - started


def ready(program: str) -> float:
    """Seconds until a daemon on an empty store says that it is ready."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        folder = Path(name)
        told.bind(str(folder / "notify"))
        told.settimeout(PATIENCE_S)
        (folder / "hookrelay.toml").write_text(
            'store.url = "sqlite://h.db"\nevents.socket = "e.sock"\napi.listen = ["unix:a.sock"]\n'
        )
        started = time.monotonic()
        with subprocess.Popen(  # noqa: S603 -- the program in question
            [program, "serve", "--config", str(folder / "hookrelay.toml")],
            env={"NOTIFY_SOCKET": str(folder / "notify")},
            stderr=subprocess.DEVNULL,
        ) as daemon:
            try:
                while not told.recv(65536).startswith(b"READY=1"):
                    pass
                return time.monotonic() - started
            finally:
                daemon.terminate()


if __name__ == "__main__":
    program = str(Path(sys.argv[1]).resolve())
    commands = min(version(program) for _ in range(TRIES))
    daemons = min(ready(program) for _ in range(TRIES))
    print(f"a command starts in {commands:.2f} s, a daemon is ready after {daemons:.2f} s")

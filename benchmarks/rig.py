"""What every benchmark needs: a real daemon, nginx as the receiver, wrk as the ceiling, and figures of processes.

All on loopback, in a temporary folder. The daemon has the first core, everything else the last one.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HOOKRELAY = Path(sys.executable).with_name("hookrelay")
CORES = sorted(os.sched_getaffinity(0))
DAEMON_CORE, OTHER_CORE = {CORES[0]}, {CORES[-1]}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TICKS = os.sysconf("SC_CLK_TCK")


def need(*programs: str) -> None:
    """Name the programs that are missing, and how to get them."""
    missing = [program for program in programs if shutil.which(program, path=_path()) is None]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}. `make bench-setup` installs what the benchmarks need")


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def free_port() -> int:
    """A loopback port that nobody has just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder on this checkout's disk (a RAM disk would flatter the store)."""
    # SIGTERM would leave it behind, and every process that was started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    path = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path(__file__).parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """This process on these cores for a while: what it does itself must not take the daemon's."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def process(command: list[str], cores: set[int], log: Path, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a command on these cores; its process id. Ended by SIGTERM, and killed where that does not help."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            env={**os.environ, "PATH": _path(), **(env or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            yield child.pid
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(40)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def nginx(at: Path, *, tls: bool = False) -> Iterator[tuple[int, int]]:
    """nginx that answers every POST with 200; its port, and the port where it tells how many there were."""
    port, status = free_port(), free_port()
    lines = ""
    if tls:
        certificates(at)
        lines = f"ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key; ssl_session_cache off;"
    (at / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid {at}/nginx.pid; error_log {at}/nginx.log warn;
        {"user root;" if os.getuid() == 0 else ""}
        events {{ worker_connections 4096; }}
        http {{
          access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
          client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fcgi;
          uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
          server {{
            listen 127.0.0.1:{port} {"ssl" if tls else ""}; {lines}
            location / {{ return 200 "ok"; }}
          }}
          server {{ listen 127.0.0.1:{status}; location / {{ stub_status; }} }}
        }}"""
    )
    with process(["nginx", "-p", str(at), "-c", str(at / "nginx.conf")], OTHER_CORE, at / "nginx.out"):
        wait_for_port(port)
        yield port, status


def requests(status: int) -> int:
    """How many requests that nginx has had."""
    connection = http.client.HTTPConnection("127.0.0.1", status)
    connection.request("GET", "/")
    text = connection.getresponse().read().decode()
    connection.close()
    return int(text.splitlines()[2].split()[2])


def certificates(at: Path) -> None:
    """A certificate for localhost, and the authority that signed it."""
    import trustme

    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(at / "ca.pem")
    server.private_key_pem.write_to_path(at / "server.key")
    for number, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(at / "server.pem", append=number > 0)


def wait_for_port(port: int) -> None:
    """Return as soon as somebody listens there."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit(f"nothing listens on port {port}")


def cpu_s(pid: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy_s() -> float:
    """Time that all cores of this machine have spent on anything so far, whoever asked for it."""
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    return sum(map(int, (user, nice, system, *interrupts))) / TICKS


class Daemon:
    """A running daemon, as a benchmark sees it."""

    def __init__(self, at: Path, pid: int) -> None:
        self.at = at
        self.pid = pid
        self.socket = at / "events.sock"

    def cpu_s(self) -> float:
        """User and system time used so far."""
        return cpu_s(self.pid)

    def rss_mib(self) -> float:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def get(self, path: str) -> tuple[int, bytes]:
        """GET over the API's Unix socket."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.at / "api.sock"))
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def metric(self, name: str) -> float:
        """The value of one series, labels included in `name`."""
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return 0.0


def write_files(at: Path, webhooks: str, extra: str = "") -> None:
    """A configuration with its store and sockets in `at`."""
    (at / "webhooks.d").mkdir(exist_ok=True)
    listen = "" if "api.listen" in extra else f'api.listen = ["unix:{at}/api.sock"]'
    (at / "hookrelay.toml").write_text(
        f"""
store.url = "sqlite:///{str(at / "hookrelay.db").lstrip("/")}"
events.socket = "{at}/events.sock"
{listen}
egress.allow_http = true
egress.allow = ["127.0.0.1/32", "::1/128", "localhost"]
log.level = "warning"
{extra}
"""
    )
    (at / "webhooks.d" / "bench.toml").write_text(webhooks)


def webhook(name: str, url: str, **fields: object) -> str:
    """One `[[webhook]]` table."""
    said = {"name": name, "url": url, "events": ["*"], "secret": SECRET, **fields}
    return "[[webhook]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())


@contextmanager
def daemon(at: Path, cores: set[int] | None = None) -> Iterator[Daemon]:
    """A daemon on the files in `at`, once it is ready."""
    command = [str(HOOKRELAY), "serve", "--config", str(at / "hookrelay.toml")]
    with process(command, cores or DAEMON_CORE, at / "daemon.log") as pid:
        running = Daemon(at, pid)
        for _ in range(1500):
            try:
                if running.get("/-/ready")[0] == 200:
                    break
            except OSError:
                pass
            if not Path(f"/proc/{pid}/stat").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                sys.exit((at / "daemon.log").read_text())
            time.sleep(0.01)
        else:
            sys.exit("the daemon did not become ready")
        yield running


def event(number: int, size: int = 1024, *, type: str = "booking.created") -> bytes:
    """A line whose event is about `size` bytes."""
    filler = b"x" * max(0, size - 90)
    return b'{"type":"%b","data":{"number":%d,"filler":"%b"}}\n' % (type.encode(), number, filler)


def machine() -> str:
    """This machine in a line, without anything that names it."""
    with open("/proc/cpuinfo") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return f"{model}, {len(CORES)} cores, Linux {os.uname().release.split('-')[0]}, Python {sys.version.split()[0]}"

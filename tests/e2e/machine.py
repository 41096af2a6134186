"""A Debian 12 with a systemd of its own, in a container beside this system: where the package is installed for real."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import processes
from rig import wait_for

PACKAGES = "systemd-sysv,dbus,python3,ca-certificates"
BOOT_S = 120
BPF = ("--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN", "--system-call-filter=bpf")
"""What systemd needs to give a unit IPAddressDeny=."""


def make_root(root: Path) -> None:
    """A minimal Debian 12 in a folder. Its packages come from Debian's archive."""
    done = subprocess.run(
        # nothing of it need outlive a power cut
        ["mmdebstrap", "--variant=apt", "--dpkgopt=force-unsafe-io", f"--include={PACKAGES}", "bookworm", str(root)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


class Machine:
    """A booted container over a root. It shares this system's network: the loopback addresses are the same ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root.with_name(root.name + ".log")
        with self._log.open("wb") as log:
            self._process = processes.start(
                [
                    "systemd-nspawn",
                    "--boot",
                    f"--directory={root}",
                    f"--machine=hookrelay-{os.getpid()}",
                    "--register=no",
                    "--keep-unit",
                    "--link-journal=no",
                    *BPF,
                ],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self._is_up, BOOT_S, self.log)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self.log()
        if self.leader() is None:
            return False
        said = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return said in ("running", "degraded")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def leader(self) -> int | None:
        """Its first process, as this system numbers it."""
        pid = self._process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found[0]) if found else None

    def path(self, inside: str) -> Path:
        """A file as the container sees it, what is mounted there included."""
        return Path(f"/proc/{self.leader()}/root{inside}")

    def run(self, *command: str, check: bool = True, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """To its end, as root in the container."""
        done = subprocess.run(
            ["nsenter", f"--target={self.leader()}", "--all", "--", "env", "-i", "LC_ALL=C.UTF-8", "NO_COLOR=1",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done

    def shell(self, script: str, check: bool = True) -> str:
        """What a script prints."""
        return self.run("sh", "-ec", script, check=check).stdout

    def journal(self, unit: str = "hookrelay.service") -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)  # it shuts the system down
        end = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.root, ignore_errors=True)

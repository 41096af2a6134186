"""The package as an operator meets it: built, judged by lintian, and at work under a real systemd in a Debian 12."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, make_root
from rig import Receiver, hook, wait_for
from test_service_manager import Submitter

ROOT = Path(__file__).parents[2]
SETTINGS = """
events.max_size = "128KiB"
egress.allow_http = true
egress.allow = ["127.0.0.0/8"]
"""
DOCUMENT = ROOT / "docs" / "systemd.md"
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
DROP_INS = "/etc/systemd/system/hookrelay.service.d"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers are made by root")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deb")
    environment = {**os.environ, "DEB_COMPRESS": "gzip", "DEB_VERSION": "1.0.0"}
    done = subprocess.run([ROOT / "scripts" / "deb", out], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"hookrelay_1\.0\.0_\w+\.deb: \d+ KiB, \d+ MiB installed\n$", done.stdout)
    (made,) = out.glob("*.deb")
    return made


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a later version."""
    tree = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "-R", package, tree / "root"], check=True)
    control = tree / "root" / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("Version: 1.0.0", "Version: 1.0.1"))
    made = tree / "newer.deb"  # by a name that the page does not take
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "-b", tree / "root", made], check=True, capture_output=True)
    shutil.rmtree(tree / "root")
    return made


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine") / "root"
    make_root(root)
    running = Machine(root)
    yield running
    running.close()


def install(machine: Machine, package: Path) -> None:
    shutil.copy(package, machine.root / "srv")
    machine.run("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", f"/srv/{package.name}")


@pytest.fixture
def installed(machine: Machine, package: Path) -> Machine:
    """The package installed and at work on an empty store, with settings for receivers on this machine."""
    state = machine.run("dpkg-query", "--show", "--showformat=${db:Status-Status}", "hookrelay", check=False).stdout
    if state != "installed":
        install(machine, package)
        machine.shell("test -e /srv/hookrelay.toml || cp --preserve /etc/hookrelay/hookrelay.toml /srv/")
    machine.shell(
        "systemctl stop hookrelay.service hookrelay.socket\n"
        f"rm -rf {DROP_INS} /var/lib/private/hookrelay/* /etc/hookrelay/webhooks.d/* /etc/hookrelay/*.key\n"
        "cp --preserve /srv/hookrelay.toml /etc/hookrelay/\n"
        "journalctl --quiet --rotate --vacuum-time=1us\n"
        "systemctl daemon-reload; systemctl reset-failed"
    )
    configure(machine, SETTINGS)
    machine.run("systemctl", "start", "hookrelay")
    return machine


def configure(machine: Machine, settings: str) -> None:
    """Put settings before the example's sections, where TOML takes dotted keys."""
    file = machine.path("/etc/hookrelay/hookrelay.toml")
    file.write_text(settings + re.sub(r"^\[(\w+)\]$", r"#[\1]", file.read_text(), flags=re.MULTILINE))


def webhooks(machine: Machine, *tables: str) -> None:
    machine.path("/etc/hookrelay/webhooks.d/hooks.toml").write_text("".join(tables))


def pid(machine: Machine) -> str:
    return machine.run("systemctl", "show", "--property=MainPID", "--value", "hookrelay").stdout.strip()


def is_ready(machine: Machine) -> bool:
    said = machine.run("systemctl", "show", "--property=ActiveState,SubState", "--value", "hookrelay").stdout
    return said.split() == ["active", "running"]


def status(machine: Machine) -> str:
    return machine.run("systemctl", "status", "--no-pager", "--lines=20", "hookrelay", check=False).stdout


def drop_in(machine: Machine, name: str, text: str) -> None:
    machine.shell(f"mkdir -p {DROP_INS}")
    (machine.path(DROP_INS) / name).write_text(text)
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_lintian_finds_no_error(package):
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error", "--tag-display-limit=0", package],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_names_no_place_where_it_was_built(package, tmp_path):
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    places = [str(ROOT).encode(), b"/tmp/tmp."]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 1000
    assert [path for path in files if any(place in path.read_bytes() for place in places)] == []


def test_installed_it_serves_in_a_sandbox_and_only_who_is_let_in_may_submit(installed, receiver):
    webhooks(installed, hook("one", receiver.port))
    installed.run("systemctl", "reload", "hookrelay")
    installed.shell("id app || useradd --groups hookrelay-events app; id other || useradd other")
    done = installed.run("runuser", "-u", "app", "--", "hookrelay", "send", "booking.created", '{"booking": 7}')
    assert done.stdout.endswith(": 1 delivery\n")
    receiver.wait(1)
    done = installed.run("runuser", "-u", "other", "--", "hookrelay", "send", "booking.created", "1", check=False)
    assert done.returncode == 77, done.stderr
    done = installed.run("runuser", "-u", "app", "--", "hookrelay", "status", check=False)
    assert (done.returncode, "permission denied" in done.stderr) == (77, True)
    secrets = "/etc/hookrelay/webhooks.d/hooks.toml"
    assert installed.run("runuser", "-u", "app", "--", "cat", secrets, check=False).returncode != 0

    installed.run("env", "HOOKRELAY_TELEMETRY__OTLP_ENDPOINT=http://127.0.0.1:4318", "hookrelay", "check")
    wait_for(lambda: 'Status: "webhooks: 1 active; deliveries: 0 pending' in status(installed), 30)
    places = "/etc/hookrelay /etc/hookrelay/* /var/lib/hookrelay/ /run/hookrelay/*"
    files = installed.shell(f"stat -c '%A %U:%G %n' {places}")
    assert files.splitlines() == [
        "drwxr-x--- root:hookrelay /etc/hookrelay",
        "-rw-r----- root:hookrelay /etc/hookrelay/hookrelay.toml",
        "drwxr-x--- root:hookrelay /etc/hookrelay/webhooks.d",
        "drwx------ hookrelay:hookrelay /var/lib/hookrelay/",
        "srw------- hookrelay:hookrelay /run/hookrelay/api.sock",
        "srw-rw---- hookrelay:hookrelay-events /run/hookrelay/events.sock",
    ]
    said = dict(re.findall(r"(\w+):\t(\S+)", installed.run("cat", f"/proc/{pid(installed)}/status").stdout))
    assert (said["NoNewPrivs"], said["Seccomp"], said["CapBnd"], said["CapEff"]) == ("1", "2", "0" * 16, "0" * 16)
    level = re.search(
        r"Overall exposure level for hookrelay.service: ([\d.]+)",
        installed.run("systemd-analyze", "security", "--no-pager", "hookrelay.service").stdout,
    )
    assert level is not None
    assert float(level[1]) <= 1.2


def test_the_demo_finds_the_program_that_shows_it(installed):
    assert "20 of 20 delivered in 20 attempts" in installed.run("hookrelay", "demo").stdout


def test_a_reload_takes_the_files_and_one_with_a_mistake_is_refused_by_name(installed, receiver):
    before = pid(installed)
    webhooks(installed, hook("one", receiver.port), "nonsense = 1\n")
    assert installed.run("systemctl", "reload", "hookrelay", check=False).returncode != 0
    assert "/etc/hookrelay/webhooks.d/hooks.toml:6: webhook[0].nonsense" in installed.journal()
    webhooks(installed, hook("one", receiver.port))
    installed.run("systemctl", "reload", "hookrelay")
    wait_for(lambda: '"event": "reloaded"' in installed.journal(), 30)
    assert (pid(installed), is_ready(installed)) == (before, True)
    installed.run("systemctl", "stop", "hookrelay.service", "hookrelay.socket")
    assert "hookrelay.service: Deactivated successfully" in installed.journal()


def test_a_mistake_in_the_configuration_is_not_tried_again(installed):
    webhooks(installed, "nonsense = 1\n")
    installed.run("systemctl", "restart", "hookrelay", check=False)
    said = "ActiveState=failed\nNRestarts=0\nExecMainStatus=78\n"
    shown = installed.run("systemctl", "show", "--property=NRestarts,ActiveState,ExecMainStatus", "hookrelay").stdout
    assert sorted(shown.split()) == sorted(said.split()), status(installed)


def test_a_daemon_that_stands_still_is_ended_by_the_watchdog_and_started_again(installed):
    drop_in(installed, "watchdog.conf", "[Service]\nWatchdogSec=2\n")
    installed.run("systemctl", "restart", "hookrelay")
    before = pid(installed)
    installed.shell(f"kill -STOP {before}")
    wait_for(lambda: is_ready(installed) and pid(installed) not in ("0", before), 60, lambda: status(installed))
    assert "Watchdog timeout (limit 2s)!" in installed.journal()


def test_an_upgrade_under_load_refuses_loses_and_doubles_nothing_and_keeps_what_was_changed(installed, newer, receiver):
    webhooks(installed, hook("one", receiver.port))
    installed.run("systemctl", "reload", "hookrelay")
    changed = installed.path("/etc/hookrelay/hookrelay.toml").read_text()
    before, over = pid(installed), threading.Event()
    submitters = [Submitter(installed.path("/run/hookrelay/events.sock"), name, over) for name in range(2)]
    for each in submitters:
        each.start()
    try:
        wait_for(lambda: all(len(each.acknowledged) > 20 for each in submitters))
        install(installed, newer)
        wait_for(lambda: is_ready(installed) and pid(installed) not in ("0", before), 60, lambda: status(installed))
        so_far = [len(each.acknowledged) for each in submitters]
        wait_for(lambda: all(len(e.acknowledged) > n + 20 for e, n in zip(submitters, so_far, strict=True)))
    finally:
        over.set()
        for each in submitters:
            each.join(20)
    acknowledged = {number for each in submitters for number in each.acknowledged}
    came = lambda: Counter(json.loads(request.body)["data"]["number"] for request in list(receiver.requests))  # noqa: E731 -- looked at twice
    wait_for(lambda: acknowledged <= set(came()), 60)
    assert [each.refused for each in submitters] == [[], []]
    assert set(came().values()) == {1}
    assert installed.run("dpkg-query", "-W", "-f", "${Version}", "hookrelay").stdout == "1.0.1"
    assert installed.path("/etc/hookrelay/hookrelay.toml").read_text() == changed


# --- the drop-ins -------------------------------------------------------------------------------------------------


def shipped(machine: Machine, name: str) -> str:
    return machine.path(f"/usr/share/doc/hookrelay/examples/drop-ins/{name}").read_text()


def test_a_key_by_credential_seals_secrets_and_reloads_still_tell_of_mistakes(installed, receiver):
    machine = installed
    machine.shell("head -c 32 /dev/urandom | base64 | install -m 0400 /dev/stdin /etc/hookrelay/store.key")
    drop_in(machine, "credentials.conf", shipped(machine, "credentials.conf"))
    machine.run("systemctl", "restart", "hookrelay")
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    url = f"http://127.0.0.1:{receiver.port}/"
    machine.run("hookrelay", "webhooks", "create", "--url", url, "--event", "*", "--secret-file", "-", stdin=secret)
    machine.run("hookrelay", "send", "booking.created", "1")
    receiver.wait(1)
    machine.run("systemctl", "stop", "hookrelay")
    store = b"".join(path.read_bytes() for path in machine.path("/var/lib/private/hookrelay").glob("hookrelay.db*"))
    assert b"127.0.0.1" in store
    assert secret.encode() not in store
    machine.run("systemctl", "start", "hookrelay")
    machine.run("systemctl", "reload", "hookrelay")
    webhooks(machine, "nonsense = 1\n")
    assert machine.run("systemctl", "reload", "hookrelay", check=False).returncode != 0
    assert "/etc/hookrelay/webhooks.d/hooks.toml:1: nonsense" in machine.journal()


def test_the_fence_in_the_kernel_lets_nothing_out_to_where_it_denies(installed, receiver):
    """With loopback addresses in the place of private ones, so that nothing leaves this machine."""
    text = shipped(installed, "egress.conf")
    assert "IPAddressDeny=10.0.0.0/8 " in text
    assert "IPAddressAllow=localhost" in text
    text = text.replace("10.0.0.0/8", "127.0.0.1/32").replace("IPAddressAllow=localhost", "IPAddressAllow=127.0.0.2/32")
    webhooks(installed, hook("one", receiver.port, timeout="2s"))
    installed.run("systemctl", "restart", "hookrelay")
    installed.run("hookrelay", "send", "booking.created", "1")
    receiver.wait(1)
    drop_in(installed, "egress.conf", text)
    installed.run("systemctl", "restart", "hookrelay")
    assert "firewall" not in installed.run("journalctl", "--boot", "--no-pager", "--output=cat").stdout.lower()
    installed.run("hookrelay", "send", "booking.created", "2")
    wait_for(lambda: "connect_timeout" in installed.journal(), 30, installed.journal)
    assert len(receiver.requests) == 1


def test_every_command_of_the_page_works_from_the_installation_to_the_removal(installed, package):
    machine = installed
    machine.shell("id app || useradd app")
    assert (machine.root / "srv" / package.name).exists()
    machine.path("/etc/apt/apt.conf.d/yes").write_text('APT::Get { Assume-Yes "true"; allow-downgrades "true"; }\n')
    blocks = BLOCK.findall(DOCUMENT.read_text())
    assert len(blocks) > 8
    for block in blocks:
        done = machine.run("sh", "-ec", f"cd /srv\n{block}", check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}\n{status(machine)}"
        if "restart hookrelay" in block:
            assert is_ready(machine), block


# --- the end ------------------------------------------------------------------------------------------------------


def test_removed_it_keeps_the_store_and_purged_it_leaves_nothing(installed, package, receiver):
    webhooks(installed, hook("one", receiver.port))
    installed.run("systemctl", "reload", "hookrelay")
    installed.run("hookrelay", "send", "booking.created", "1")
    installed.run("apt-get", "remove", "--yes", "--quiet", "hookrelay")
    assert installed.path("/var/lib/private/hookrelay/hookrelay.db").exists()
    assert not installed.path("/usr/lib/hookrelay").exists()
    assert not installed.path("/run/hookrelay/events.sock").exists()
    assert installed.run("systemctl", "is-active", "hookrelay.service", "hookrelay.socket", check=False).returncode
    install(installed, package)
    assert is_ready(installed), status(installed)
    assert installed.run("hookrelay", "events", "list").stdout.count("evt_") == 1
    installed.shell("rm /etc/hookrelay/webhooks.d/hooks.toml")
    installed.run("apt-get", "purge", "--yes", "--quiet", "hookrelay")
    left = installed.shell(
        "find / -xdev -name '*hookrelay*' -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/log/*'"
        " -not -path '/var/cache/*' -not -path '/sys/*'; find /run -name '*hookrelay*'"
    )
    assert left == ""

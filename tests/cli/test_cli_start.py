"""The command line as a whole: colours, a quick start, help, completion."""

import os
import subprocess
import sys

import pytest
from api_samples import HOOKRELAY, STATUS, WEBHOOK, WH, on_a_terminal, run
from click.testing import CliRunner
from stub_api import page

from hookrelay.cli.main import main


@pytest.mark.parametrize("command", [["webhooks", "list"], ["webhooks", "show", WH], ["status"]])
def test_colours_are_for_terminals_that_want_them(stub, command):
    stub.answers["GET /v1/webhooks"] = page(WEBHOOK)
    stub.answers[f"GET /v1/webhooks/{WH}"] = (200, WEBHOOK)
    stub.answers["GET /v1/status"] = (200, STATUS)
    green = "\x1b[32m"
    assert green in on_a_terminal(stub, *command)[1]
    assert green not in on_a_terminal(stub, *command, NO_COLOR="1")[1]
    piped = [*HOOKRELAY, *command, "--api", stub.place]
    done = subprocess.run(piped, capture_output=True, text=True, timeout=30, env={**os.environ, "FORCE_COLOR": "1"})
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["sned"], "send"),
        (["chekc"], "check"),
        (["webhook"], "webhooks"),
        (["dashboard-lnk"], "dashboard-link"),
        (["webhooks", "lst"], "list"),
        (["deliveries", "retyr", "dlv_1"], "retry"),
        (["events", "purg"], "purge"),
        (["keys", "craete"], "create"),
    ],
)
def test_a_misspelt_command_is_answered_with_the_one_that_is_meant(arguments, meant):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"did you mean {meant}?" in result.stderr


def test_a_command_that_is_like_none_is_told_as_it_is():
    result = CliRunner().invoke(main, ["zzzzzz"])
    assert (result.exit_code, "did you mean" in result.stderr) == (2, False)


@pytest.mark.parametrize("arguments", [["--help"], ["send", "--help"], ["webhooks", "create", "--help"]])
def test_a_start_imports_nothing_heavy(arguments):
    command = [sys.executable, "-X", "importtime", "-m", "hookrelay", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert imported & {"apsw", "cryptography", "httpx", "rich", "starlette", "trio"} == set()


def test_the_daemon_starts_without_what_many_never_need():
    """Each costs every start 10 to 40 ms, or every daemon some MiB."""
    asked = "import sys, hookrelay.cli.serve, hookrelay.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert "trio" in imported
    assert imported & {"cryptography", "dns", "h11", "httpx", "jinja2", "jsonschema_rs", "rich", "starlette"} == set()


def test_garbage_is_left_alone_at_the_start_and_collected_once_the_daemon_runs(tmp_path):
    (tmp_path / "h.toml").write_text("")
    asked = (
        "import gc, sys, hookrelay.daemon as daemon, hookrelay.cli.main as cli, hookrelay.outfit as outfit\n"
        "load, seen = outfit.load, []\n"
        "outfit.load = lambda *said: seen.append(gc.isenabled()) or load(*said)\n"
        "daemon.opening.open_file = lambda *_, **__: sys.exit(f'{seen} {gc.isenabled()}')\n"
        f"cli.main(['serve', '--config', {str(tmp_path / 'h.toml')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60)
    assert "[False] True" in done.stderr


def commands(group, path=()):
    context = main.make_context("hookrelay", ["version"], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


OURS = ("webhooks", "deliveries", "events", "keys", "replay", "status", "reload", "completion", "backup", "doctor")


def test_every_command_has_an_example_and_its_exit_codes_in_its_help():
    ours = {name: main.get_command(None, name) for name in OURS}
    found = 0
    for name, top in ours.items():
        for path, command in commands(top, (name,)) if hasattr(top, "commands") else [((name,), top)]:
            text = " ".join(run(None, *path, "--help").stdout.split())
            assert "Exit codes: 0 " in text, path
            assert f"hookrelay {' '.join(path)}" in text, path
            assert command.get_short_help_str(), path
            found += 1
    assert found == 26


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell):
    result = run(None, "completion", shell)
    assert "_HOOKRELAY_COMPLETE" in result.stdout
    assert result.stderr == ""


def test_commands_and_statuses_are_completed():
    def completed(words: str) -> list[str]:
        env = {"_HOOKRELAY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
        result = CliRunner().invoke(main, prog_name="hookrelay", env=env)
        return [line.partition(",")[2] for line in result.stdout.splitlines()]

    assert completed("hookrelay ") == list(main.list_commands(None))
    assert "rotate-secret" in completed("hookrelay webhooks ")
    assert completed("hookrelay deliveries list --status ") == ["pending", "held", "succeeded", "failed", "cancelled"]

"""The command line's reference and the man pages: complete, and in a form that their readers' programs take."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

import click
import pytest

from hookrelay.cli.main import main
from hookrelay.config.keys import KEYS
from hookrelay.config.load import load
from hookrelay.web.app import ROUTES

ROOT = Path(__file__).parent.parent
REFERENCE = (ROOT / "docs/cli-reference.md").read_text()
PAGES = sorted((ROOT / "docs/man").iterdir())


@pytest.fixture(scope="module")
def commands() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        return importlib.import_module("commands")


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_every_command_and_option_is_in_the_reference_and_in_the_manual(name):
    manual = (ROOT / "docs/man/hookrelay.1").read_text().replace("\\-", "-")
    command = main.get_command(click.Context(main), name)
    of_group = list(command.commands.items()) if isinstance(command, click.Group) else []
    for path, each in [(name, command), *((f"{name} {member}", each) for member, each in of_group)]:
        told = re.search(rf"\n##+ hookrelay {path}\n(.*?)(?=\n##|\Z)", REFERENCE, re.DOTALL)
        page = re.search(rf"\n\.SS {path}\n(.*?)(?=\n\.S|\Z)", manual, re.DOTALL)
        for param in each.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert f"`{param.opts[0]}" in told[1], (path, param.opts)
                assert f"\\fB{param.opts[0]}" in page[1], (path, param.opts)


def test_exit_codes_are_the_same_everywhere(commands):
    in_guide = dict(re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "docs/cli.md").read_text(), re.MULTILINE))
    assert in_guide == {str(code): text for code, text in commands.EXIT_CODES.items()}
    for command in commands.commands():
        for paragraph in command.paragraphs:
            for code in re.findall(r"(?<=[:,;] )(\d+) [a-z]", paragraph.text.partition("Exit codes")[2]):
                assert int(code) in commands.EXIT_CODES, (command.name, code)


def test_every_setting_is_in_its_man_page():
    page = (ROOT / "docs/man/hookrelay.toml.5").read_text()
    assert [key.dotted for key in KEYS.values() if f"\\fB{key.name}\\fR" not in page] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_man_pages_are_typeset_without_a_warning(path):
    done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", path], capture_output=True, text=True, check=True)
    assert "SEE ALSO" in shown.stdout
    assert "\\" not in re.sub(r"\\$", "", shown.stdout, flags=re.MULTILINE)  # no escape was left as it was written


def test_every_call_is_in_the_api_reference():
    text = (ROOT / "docs/api-reference.md").read_text()
    pages = ("/openapi.json", "/docs", "/dashboard")
    calls = [f"{method} {path}" for path, methods in ROUTES.items() for method in methods if not path.startswith(pages)]
    assert [call for call in calls if f"`{call}`" not in text] == []


def test_the_examples_of_the_man_page_are_right(tmp_path):
    page = (ROOT / "docs/man/hookrelay.toml.5").read_text().partition(".SH EXAMPLE")[2]
    settings, webhook = [text.replace("\\-", "-") for text in re.findall(r"\.nf\n(.*?)\.fi", page, re.DOTALL)]
    (tmp_path / "webhooks.d").mkdir()
    (tmp_path / "hookrelay.toml").write_text(settings)
    (tmp_path / "webhooks.d/bookings.toml").write_text(webhook)
    (tmp_path / "webhooks.d/bookings.secret").write_text("whsec_" + "A" * 32)
    loaded = load(tmp_path / "hookrelay.toml", {})
    assert [webhook.url for webhook in loaded.webhooks] == ["https://shop.example/webhooks"]


def examples() -> list[str]:
    """Every command line that some --help shows, its continued lines joined."""
    blocks = re.findall(r"```console\n(.*?)```", REFERENCE, re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r" *\\\n *", " ", block).splitlines()]
    return [line.removeprefix("$ ") for line in lines]


@pytest.mark.parametrize("line", examples())
def test_every_example_of_the_command_line_is_one_that_it_takes(line):
    shell = shlex.shlex(line.replace('eval "$(', "").replace(')"', ""), posix=True, punctuation_chars="|&<>;")
    shell.whitespace_split = True
    of_line: list[list[str]] = [[]]
    for word in shell:
        if set(word) <= set("|&<>;"):
            of_line.append([])
        elif of_line[-1] or "=" not in word:  # not an assignment before the command
            of_line[-1].append(word)
    calls = [words[1:] for words in of_line if words[:1] == ["hookrelay"]]
    assert calls
    for name, *words in calls:
        command, context = main.get_command(click.Context(main), name), click.Context(main)
        while isinstance(command, click.Group):
            command = command.get_command(context, words.pop(0))
        assert command is not None
        command.make_context(name, words)  # a mistake ends the test with click's own words

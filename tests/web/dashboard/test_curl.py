"""The commands of "Copy as curl": what a shell makes of them, whatever customers have put into the request."""

import base64
import shutil
import subprocess

import pytest
from standardwebhooks import Webhook as Standard

from hookrelay.web.dashboard.curl import commands

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = """{"data":"it's \\"quoted\\" $HOME `pwned` $(pwned) !! \\\\ é\t~ # *",\r\n"id":1}"""
URL = "https://example.com/a'$(pwned)'/[1-3]/;&*?q=!$&@,"
NAME = "x!#$%&'*+.^_`pwned`|~-"
SHELLS = [path for name in ("bash", "dash", "zsh") if (path := shutil.which(name))]


def typed(shell, text, at):
    """The words that curl gets when the commands are typed into a shell."""
    spy = "curl() { for word; do printf '%s\\0' \"$word\"; done; }\n"
    said = text.replace("whsec_...", SECRET)
    done = subprocess.run([shell], input=(spy + said + "\n").encode(), capture_output=True, cwd=at, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().split("\0")[:-1]


def fields(words):
    given = [words[at + 1] for at, word in enumerate(words) if word == "-H"]
    return dict(each.split(": ", 1) for each in given)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("is_file", [False, True], ids=["body in the commands", "body in a file"])
def test_a_shell_takes_everything_that_customers_wrote_for_text(shell, is_file, tmp_path):
    (tmp_path / "dlv_1.json").write_bytes(BODY.encode())
    words = typed(shell, commands(URL, [NAME], "evt_1", None if is_file else BODY, "dlv_1.json"), tmp_path)
    assert words[:3] == ["--globoff", "-i", URL]
    sent = fields(words)
    assert sent[NAME] == "..."
    assert words[-2:] == ["--data-binary", "@dlv_1.json" if is_file else BODY]
    # verified as text: what is signed are the body's bytes
    Standard(SECRET).verify(BODY, sent, json_parse=False)


def test_no_line_is_a_comment_which_zsh_would_take_for_a_command():
    for line in commands("https://example.com/", [], "evt_1", "{}", "dlv_1.json").splitlines():
        assert " #" not in line
        assert not line.startswith("#")

"""Which server `hookrelay listen --forward-to` means."""

import click
import pytest

from hookrelay.cli.listen import _whole


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("localhost:3000/webhooks", "http://localhost:3000/webhooks"),
        (":3000", "http://localhost:3000"),
        (":3000/hooks?a=b", "http://localhost:3000/hooks?a=b"),
        ("3000", "http://localhost:3000"),
        ("3000/hooks", "http://localhost:3000/hooks"),
        ("localhost", "http://localhost"),
        ("LocalHost:80/X", "http://localhost:80/X"),
        ("shop.localhost:3000/", "http://shop.localhost:3000/"),
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("[::1]:3000/x", "http://[::1]:3000/x"),
        (" HTTP://localhost:3000/x\n", "http://localhost:3000/x"),
        ("https://dev.example.com/x", "https://dev.example.com/x"),
    ],
)
def test_a_server_of_this_machine_needs_no_scheme(said: str, url: str):
    assert _whole(said) == url


@pytest.mark.parametrize(
    "said", ["example.com", "example.com:3000/x", "localhost.example.com:1", "127.0.0.1.example.com"]
)
def test_another_machine_needs_one(said: str):
    with pytest.raises(click.BadParameter, match="http:// or https:// before it"):
        _whole(said)


@pytest.mark.parametrize(
    "said", ["", "http://", "ftp://localhost/", "localhost:x", ":99999", ":", "http://[::1", "/hooks"]
)
def test_what_is_no_url_is_told_with_one(said: str):
    with pytest.raises(click.BadParameter, match="is no URL: write one such as http://localhost:3000/webhooks"):
        _whole(said)

"""The file of keys that seal secrets: every way to get it wrong is told with its remedy, and no key is repeated."""

import base64
import os
from pathlib import Path

import pytest

from hookrelay.config.load import load
from hookrelay.model import ConfigError
from hookrelay.rules.key_text import read_keys

KEY = base64.b64encode(bytes(range(32)))
OTHER = base64.b64encode(bytes(32))


def mistakes(folder: Path, content: bytes | None, mode: int = 0o600) -> list[str]:
    (folder / "webhooks.d").mkdir()
    (folder / "hookrelay.toml").write_text('[store]\nkey_file = "secret.key"\n')
    if content is not None:
        (folder / "secret.key").write_bytes(content)
        (folder / "secret.key").chmod(mode)
    try:
        loaded = load(folder / "hookrelay.toml", {})
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes]
    assert loaded.config.store.key_file == folder / "secret.key"
    return []


@pytest.mark.parametrize("content", [KEY, KEY + b"\n", b"# made on Monday\n\n" + KEY + b"\r\n" + OTHER + b"\n"])
def test_one_key_a_line_newest_first_is_right(tmp_path: Path, content: bytes):
    assert mistakes(tmp_path, content) == []


def test_comments_and_blank_lines_are_passed_over():
    assert read_keys(b"# a\n\n  " + KEY + b"  \n" + OTHER) == (bytes(range(32)), bytes(32))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "holds no key"),
        (b"# nothing\n", "holds no key"),
        (KEY + b"\nc2hvcnQ=\n", "line 2 holds 5 bytes"),
        (b"\n!!" + KEY, "line 2 is not base64"),
        (b"\xff\xfe" + KEY, "line 1 is not base64"),
    ],
)
def test_a_mistake_names_the_place_and_what_is_right_and_no_key(tmp_path: Path, content: bytes | None, said: str):
    (mistake,) = mistakes(tmp_path, content)
    assert mistake.startswith(f"{tmp_path}/hookrelay.toml:2: store.key_file: ")
    assert said in mistake.lower()
    assert KEY.decode() not in mistake


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_a_mistake(tmp_path: Path, mode: int):
    (mistake,) = mistakes(tmp_path, KEY, mode)
    assert "run chmod 600 on it" in mistake


def test_a_folder_is_no_file_of_keys(tmp_path: Path):
    os.mkdir(tmp_path / "secret.key")
    (mistake,) = mistakes(tmp_path, None)
    assert "is not a file" in mistake

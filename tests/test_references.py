"""What is made from the settings' definitions is up to date, right, and complete."""

import importlib
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import jsonschema_rs
import pytest

from hookrelay.config import about
from hookrelay.config.keys import KEYS
from hookrelay.config.load import load
from hookrelay.config.webhooks import _TABLE_KEYS

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / "config" / "hookrelay.toml").read_text()
SETTINGS = json.loads((ROOT / "config" / "hookrelay.schema.json").read_text())
WEBHOOKS = json.loads((ROOT / "config" / "webhooks.schema.json").read_text())


@pytest.fixture(scope="module")
def references() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        return importlib.import_module("references")


def test_what_is_made_is_up_to_date(references):
    for path, text in references.made().items():
        assert path.read_text() == text, f"{path.name}: run `make references`"


def test_every_setting_and_field_is_told_of():
    assert set(about.KEYS) == set(KEYS)
    assert set(about.WEBHOOK) == _TABLE_KEYS


def test_the_example_file_does_what_an_empty_one_does(tmp_path):
    (tmp_path / "empty.toml").touch()
    (tmp_path / "example.toml").write_text(EXAMPLE)
    assert load(tmp_path / "example.toml", {}) == load(tmp_path / "empty.toml", {})


def test_a_setting_of_the_documents_can_be_added_at_either_end_of_the_example_file(tmp_path):
    for text in (f'api.mode = "0660"\n{EXAMPLE}', f'{EXAMPLE}api.mode = "0660"\n', f'{EXAMPLE}[api]\nmode = "0660"\n'):
        (tmp_path / "added.toml").write_text(text)
        assert load(tmp_path / "added.toml", {}).config.api.mode == 0o660


def test_every_default_in_the_example_file_is_the_default(tmp_path):
    said = "\n".join(line.removeprefix("#") for line in EXAMPLE.splitlines() if "not set by default" not in line)
    said = said.partition("[event_types.")[0].replace("webhooks.d", str(tmp_path / "webhooks.d"))
    lines = [line for line in said.splitlines() if re.match(r"[a-z_]+\.[a-z_]+ = ", line)]
    assert len(lines) == len(KEYS) - EXAMPLE.count("not set by default")
    (tmp_path / "webhooks.d").mkdir()
    (tmp_path / "empty.toml").touch()
    (tmp_path / "said.toml").write_text("\n".join(lines))
    assert load(tmp_path / "said.toml", {}) == load(tmp_path / "empty.toml", {})


def test_the_examples_of_what_is_not_set_are_right(tmp_path, references):
    for dotted, example in references.EXAMPLES.items():
        if dotted in ("store.key_file", "egress.ca_file"):
            continue  # files that would have to be there
        assert KEYS[dotted].read(example, tmp_path) is not None


def test_editors_take_the_example_and_refuse_what_is_no_setting():
    validator = jsonschema_rs.validator_for(SETTINGS)
    said = tomllib.loads("\n".join(line for line in EXAMPLE.splitlines()))
    assert validator.is_valid(said)
    assert validator.is_valid({"delivery": {"retry": "exponential(1s, 2, 1h, 12)"}, "log": {"level": "debug"}})
    assert validator.is_valid({"event_types": {"booking.created": {"description": "made", "example": {"a": 1}}}})
    for wrong in (
        {"delivery": {"timeout": 30}},
        {"delivery": {"retyr": []}},
        {"nonsense": {}},
        {"log": {"level": "loud"}},
        {"event_types": {"a.b": {"descriptoin": ""}}},
    ):
        assert not validator.is_valid(wrong), wrong


def test_editors_take_the_example_webhook_and_refuse_mistakes(tmp_path):
    text = (ROOT / "config" / "webhooks.d" / "example.toml.disabled").read_text()
    validator = jsonschema_rs.validator_for(WEBHOOKS)
    right = tomllib.loads(text)["webhook"][0]
    assert validator.is_valid({"webhook": [right]})
    for wrong in (
        {"events": "booking.*"},
        {"secret": "whsec_x"},
        {"status": "off"},
        {"uri": "x"},
        {"max_in_flight": "8"},
    ):
        assert not validator.is_valid({"webhook": [right | wrong]}), wrong
    (tmp_path / "webhooks.d").mkdir()
    (tmp_path / "webhooks.d" / "example.toml").write_text(text)
    (tmp_path / "webhooks.d" / "accounts.secret").write_text("whsec_" + "A" * 32 + "\n")
    (tmp_path / "hookrelay.toml").touch()
    assert [webhook.source for webhook in load(tmp_path / "hookrelay.toml", {}).webhooks] == ["file:example.toml"]

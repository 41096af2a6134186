"""Daemons and receivers that end with their test, whatever became of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import Daemon, Receiver


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*args: object, **kwargs: object) -> Receiver:
        made.append(Receiver(*args, **kwargs))  # type: ignore[arg-type]  # passed on as they came
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def make(webhooks: str = "", settings: str = "", at: Path = tmp_path, **environment: str) -> Daemon:
        made.append(Daemon(at, webhooks, settings, **environment))
        return made[-1]

    yield make
    for each in made:
        each.close()

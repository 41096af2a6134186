"""Daemons and receivers that end with their test, whatever became of it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_rig import Served, Shop, Told, serve
from browser import Visitor, chromium
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visitor(browser: Any) -> Iterator[Callable[..., Visitor]]:
    """Visitors of dashboards. At the end of the test none of their pages may have complained."""
    made: list[Visitor] = []

    def make(served: Served, **options: Any) -> Visitor:
        made.append(Visitor(browser, served, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
    for each in made:
        each.check()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Daemons with an address for browsers."""
    made: list[Served] = []

    def make(webhooks: str = "", settings: str = "", **environment: str) -> Served:
        made.append(serve(tmp_path, webhooks, settings, **environment))
        return made[-1]

    yield make
    for each in made:
        each.running.close()


_NUMBERS = itertools.count(1)


@pytest.fixture
def shop(house: Served) -> Shop:
    """A tenant of its own in the module's `house`."""
    return Shop(house, f"t{next(_NUMBERS)}")


@pytest.fixture
def told() -> Iterator[Told]:
    receiver = Told()
    yield receiver
    receiver.close()

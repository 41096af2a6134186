"""Live pages share the time for them, and one that was made for another is not taken for the newest."""

import trio

from hookrelay.web.dashboard.live import MOST, SHARE, Pacer, message


class Page:
    """A page that takes `took_s` to be made."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.now = 0
        self.made = 0
        self._took_s = took_s

    def version(self) -> int:
        return self.now

    async def make(self) -> dict[str, str]:
        self.made += 1
        await trio.sleep(self._took_s)
        return {"part": f"<p>{self.now}</p>"}


async def test_two_readers_of_one_page_have_it_made_once(autojump_clock):
    pacer, page = Pacer(), Page()
    first = await pacer.made("page", page.version, page.make, fresh_s=1)
    page.now += 1
    second = await pacer.made("page", page.version, page.make, fresh_s=1)
    # it is of the version before: so its reader will ask again
    assert (page.made, second.version, first is second) == (1, 0, True)
    await trio.sleep(1)
    third = await pacer.made("page", page.version, page.make, fresh_s=1)
    assert (page.made, third.version, third.parts["part"]) == (2, 1, "<p>1</p>")
    await pacer.made("another", page.version, page.make, fresh_s=1)
    assert page.made == 3


async def test_making_pages_takes_its_share_of_the_time_however_many_there_are(autojump_clock, monkeypatch):
    monkeypatch.setattr("hookrelay.web.dashboard.live.perf_counter", trio.current_time)
    pacer, page = Pacer(), Page(took_s=0.01)

    async def read(number: int) -> None:
        while True:
            await pacer.made((number, trio.current_time()), page.version, page.make, fresh_s=0)

    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(read, number)
    assert 0.95 * 20 * SHARE <= page.made * 0.01 <= 20 * SHARE + 0.01


async def test_what_is_kept_is_bounded(autojump_clock):
    pacer, page = Pacer(), Page()
    for number in range(MOST + 50):
        await pacer.made(number, page.version, page.make, fresh_s=1)
    assert len(pacer._kept) == MOST


def test_a_message_keeps_every_line():
    assert message("<pre>a\n\n b</pre>") == b"event: parts\ndata: <pre>a\ndata: \ndata:  b</pre>\n\n"

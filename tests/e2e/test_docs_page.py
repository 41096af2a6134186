"""`/docs` as a browser shows it."""

import pytest
from api_rig import serve

BROKEN = r"""
(() => {
  const broken = [];
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (node.parentElement.closest("pre")) continue;
    for (const word of node.data.matchAll(/[A-Za-z0-9_]+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].map((rect) => Math.round(rect.top)));
      if (tops.size > 1) broken.push(word[0]);
    }
  }
  return broken;
})()
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = serve(tmp_path_factory.mktemp("house"))
    yield made
    made.running.close()


@pytest.mark.parametrize("width", [320, 375, 500, 768, 960, 1100, 1280, 1600, 2400])
def test_no_word_is_broken_inside_and_the_page_is_no_wider_than_the_window(house, visitor, width):
    page = visitor(house).page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/docs")
    assert page.evaluate(BROKEN) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width

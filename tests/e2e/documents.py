"""What the tests that keep documents true share: two texts are alike but for what differs from run to run."""

import re
from collections.abc import Sequence

ID = re.compile(r"\b(evt|wh|dlv|att|key|lnk|ses|aud)_[0-9A-Z]{26}\b")
Mask = tuple[re.Pattern[str], str]
MASKS: list[Mask] = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "SECRET"),
    (re.compile(r"hookrelay_live_sk_[A-Za-z0-9]{32}"), "KEY"),
    (re.compile(r"127\.0\.0\.1:[0-9]+"), "PLACE"),
    (re.compile(r"hookrelay[/ ][0-9.]+"), "VERSION"),
]


class Names:
    """Ids by the order in which they are first seen, on one side of a comparison."""

    def __init__(self, masks: Sequence[Mask]) -> None:
        self._masks = [*MASKS, *masks]
        self._seen: dict[str, list[str]] = {}

    def number(self, id: str) -> tuple[str, int]:
        """Its prefix, and the how many-th of these it is."""
        prefix = id.partition("_")[0]
        known = self._seen.setdefault(prefix, [])
        if id not in known:
            known.append(id)
        return prefix, known.index(id)

    def id(self, prefix: str, number: int) -> str:
        """The id that was seen as this one."""
        return self._seen[prefix][number]

    def masked(self, text: str) -> str:
        """The text with whatever differs from run to run made alike."""
        text = ID.sub(lambda match: "{}#{}".format(*self.number(match[0])), text)
        for pattern, mask in self._masks:
            text = pattern.sub(mask, text)
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

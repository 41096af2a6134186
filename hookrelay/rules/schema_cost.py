"""What it costs to hold data against a JSON Schema, known before it is done.

A schema that refers to itself in two ways at one place doubles its work with every step into the data, and cannot be
stopped once it has begun. What is counted is an upper bound: every subschema that may be looked at, for every value
that it may be looked at for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from msgspec import Struct, field

AT_ONE_PLACE = 2_000
"""Subschemas for any one value that cost too little to be counted for each event."""
MOST = 100_000
"""Looks of subschemas at values, each counted as often as it is deep: 0.1 s at most, and mostly far less."""

_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
_ITEMS = ("contains", "additionalItems", "unevaluatedItems")
_MEMBERS = ("unevaluatedProperties", "propertyNames")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class Node(Struct):
    """A subschema, and the numbers of those that it has look at the same value or at what is inside."""

    in_place: list[int] = field(default_factory=list)
    named: dict[str, list[int]] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)
    """For members that are not `named`."""
    members: list[int] = field(default_factory=list)
    """For all members."""
    placed: list[list[int]] = field(default_factory=list)
    """For the first, second … item."""
    items: list[int] = field(default_factory=list)
    closure: list[tuple[int, int]] = field(default_factory=list)
    """Every subschema that looks at the same value, itself included, and how often."""

    def inside(self) -> Iterator[list[int]]:
        """The groups of which each is for other values than the next, but for `members` and `items`."""
        yield from self.named.values()
        yield self.others
        yield from self.placed


def plan(schema: Any) -> list[Node] | None:
    """The graph of a schema whose cost must be counted for each event; None where it is always small.

    ValueError where a subschema refers to itself at the same place, or to what cannot be followed.
    """
    nodes = _Reader(schema).nodes
    for number in range(len(nodes)):
        _close(nodes, number, set())
    worst = _worst(nodes, 0, {}, set()) if nodes else 0
    return nodes if worst is None or worst > AT_ONE_PLACE else None


def is_affordable(nodes: Sequence[Node], data: Any) -> bool:
    """Whether this data can be held against the schema within `MOST`. Takes no longer than that itself."""
    left = MOST
    stack: list[tuple[Any, Mapping[int, int], int]] = [(data, {0: 1}, 1)]
    while stack:
        value, wanted, depth = stack.pop()
        found: dict[int, int] = {}
        for number, times in wanted.items():
            for each, count in nodes[number].closure:
                found[each] = found.get(each, 0) + times * count
        left -= depth * sum(found.values())
        if left < 0:
            return False
        looking = [(nodes[number], times) for number, times in found.items()]
        for inner, step in _inside(value):
            deeper: dict[int, int] = {}
            for node, times in looking:
                for number in _wanted(node, step):
                    deeper[number] = deeper.get(number, 0) + times
            left -= len(looking)
            if left < 0:
                return False
            if deeper:
                stack.append((inner, deeper, depth + 1))
    return True


def _inside(value: Any) -> Iterator[tuple[Any, str | int]]:
    if isinstance(value, dict):
        yield from ((inner, name) for name, inner in value.items())
    elif isinstance(value, list):
        yield from ((inner, at) for at, inner in enumerate(value))


def _wanted(node: Node, step: str | int) -> list[int]:
    if isinstance(step, str):
        return node.members + node.named.get(step, node.others)
    return node.items + (node.placed[step] if step < len(node.placed) else [])


def _close(nodes: Sequence[Node], number: int, above: set[int]) -> list[tuple[int, int]]:
    node = nodes[number]
    if number in above:
        raise ValueError("one of its parts refers to itself without going into the data: no data could ever fit it")
    if not node.closure:
        counts = {number: 1}
        for each in node.in_place:
            for reached, times in _close(nodes, each, above | {number}):
                counts[reached] = counts.get(reached, 0) + times
        node.closure = list(counts.items())
    return node.closure


def _worst(nodes: Sequence[Node], number: int, known: dict[int, int], above: set[int]) -> int | None:
    """How many subschemas look at any one value at most; None where there is no end, for it refers to itself."""
    if number in above:
        return None
    if number not in known:
        node, above = nodes[number], above | {number}
        beside = [_worst(nodes, each, known, above) for each in (*node.in_place, *node.members, *node.items)]
        groups = [[_worst(nodes, each, known, above) for each in group] for group in node.inside()]
        every = [*beside, *(each for group in groups for each in group)]
        if None in every:
            return None
        known[number] = (
            1 + sum(each or 0 for each in beside) + max(sum(each or 0 for each in group) for group in groups)
        )
    return known[number]


class _Reader:
    """Reads a schema into `nodes`, the whole of it first."""

    def __init__(self, schema: Any) -> None:
        self.nodes: list[Node] = []
        self._numbers: dict[int, int] = {}
        self._schema = schema
        self._bases: dict[int, str] = {}
        self._resources: dict[str, Any] = {}
        self._anchors: dict[str, list[Any]] = {}
        self._know(schema, "")
        self._resources.setdefault("", schema)
        self._number(schema)

    def _know(self, part: Any, base: str) -> None:
        """Remember what references may name: every object of the document, by its identity."""
        if isinstance(part, dict):
            for key in ("$id", "id"):
                if isinstance(own := part.get(key), str) and not own.startswith("#"):
                    base = urldefrag(urljoin(base, own)).url
                    self._resources.setdefault(base, part)
                elif isinstance(own, str):
                    self._anchors.setdefault(own[1:], []).append(part)
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := part.get(key), str):
                    self._anchors.setdefault(name, []).append(part)
            self._bases[id(part)] = base
            for inner in part.values():
                self._know(inner, base)
        elif isinstance(part, list):
            for inner in part:
                self._know(inner, base)

    def _number(self, part: Any) -> list[int]:
        """The number of a subschema, as a list; empty where it looks at nothing (`true`, `false`)."""
        if not isinstance(part, dict):
            return []
        number = self._numbers.get(id(part))
        if number is None:
            number = self._numbers[id(part)] = len(self.nodes)
            node = Node()
            self.nodes.append(node)
            self._read(part, node)
        return [number]

    def _read(self, part: Mapping[str, Any], node: Node) -> None:
        for key in _IN_PLACE:
            node.in_place += self._number(part.get(key))
        for key in _IN_PLACE_LISTS:
            node.in_place += self._each(part.get(key))
        for key in _IN_PLACE_MAPS:
            node.in_place += self._each(_values(part.get(key)))
        for key in _REFERENCES:
            for target in self._targets(key, part.get(key), self._bases.get(id(part), "")):
                node.in_place += self._number(target)
        if isinstance(named := part.get("properties"), dict):
            node.named = {name: self._number(inner) for name, inner in named.items()}
        node.others = self._number(part.get("additionalProperties"))
        node.members = self._each(_values(part.get("patternProperties")))
        for key in _MEMBERS:
            node.members += self._number(part.get(key))
        for key in ("prefixItems", "items"):
            if isinstance(placed := part.get(key), list):
                node.placed = [self._number(inner) for inner in placed]
            else:
                node.items += self._number(placed)
        for key in _ITEMS:
            node.items += self._number(part.get(key))

    def _each(self, parts: Any) -> list[int]:
        return [number for inner in parts or () for number in self._number(inner)] if isinstance(parts, list) else []

    def _targets(self, key: str, reference: Any, base: str) -> list[Any]:
        """What a reference may lead to: of a dynamic one everything that has the name."""
        if not isinstance(reference, str):
            return []
        place, name = urldefrag(urljoin(base, reference) if base or reference[:1] != "#" else reference)
        resource = self._resources.get(place)
        if key == "$recursiveRef":
            return [self._schema, *(each for each in self._resources.values() if each is not self._schema)]
        if name and not name.startswith("/") and (found := self._anchors.get(unquote(name))):
            return found
        for step in name.split("/")[1:]:
            resource = _step(resource, unquote(step).replace("~1", "/").replace("~0", "~"))
        if resource is None or (name and not name.startswith("/")):
            raise ValueError(f"its reference {reference[:80]} cannot be followed: write it as #/$defs/NAME")
        return [resource]


def _values(parts: Any) -> list[Any]:
    return list(parts.values()) if isinstance(parts, dict) else []


def _step(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return None

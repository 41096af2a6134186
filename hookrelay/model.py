"""The nouns that flow through the daemon, their ids, and the mistakes that carry their remedy.

Values only: what is decided about them stands in `rules/`, how they are kept in `store/`.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct

DeliveryState = Literal["pending", "succeeded", "failed", "cancelled"]
"""What the store knows. `held` is how a pending delivery of a paused or disabled webhook is shown."""

OPERATORS = "hookrelay"
"""The tenant whose webhooks hear what hookrelay itself has to tell."""

WebhookStatus = Literal["active", "paused", "disabled"]

MISSING = "missing_from_files"
"""Why a webhook is disabled whose file no longer names it (contract §3.4)."""

AttemptError = Literal[
    "dns_error",
    "egress_blocked",
    "connect_refused",
    "connect_timeout",
    "connect_error",
    "tls_error",
    "timeout",
    "reset",
    "protocol_error",
    "http_status",
    "interrupted",
    "local_fault",
    "payload_damaged",
]

BLAMELESS: frozenset[str] = frozenset({"interrupted", "local_fault", "payload_damaged"})
"""Errors that are not the receiver's: an attempt that ends so uses up nothing (contract §3.1)."""


# --- what flows -------------------------------------------------------------------------------------------------


class Submission(Struct, frozen=True, gc=False):
    """One event as the host app handed it in: well-formed, not yet accepted."""

    type: str
    data: bytes
    """The JSON value's bytes, exactly as submitted."""
    tenant: str = "default"
    idempotency_key: str | None = None
    timestamp: str | None = None
    """RFC 3339 in UTC with `Z`, or None for the moment of acceptance."""
    ordering_key: str | None = None
    traceparent: str | None = None
    test: bool = False


class Event(Struct, frozen=True, gc=False):
    """An accepted event: what every one of its deliveries shares."""

    seq: int
    created_ms: int
    id: str
    type: str
    tenant: str
    timestamp: str
    data: bytes
    ordering_key: str | None = None
    traceparent: str | None = None
    test: bool = False


class Delivery(Struct, frozen=True, gc=False):
    """One event for one webhook that is still to be made."""

    seq: int
    event: Event
    attempt_count: int = 0
    """Attempts in the history, whoever was to blame: the next attempt's number is one more."""
    strikes: int = 0
    """Attempts that the receiver is to blame for: the index into the retry schedule."""
    due_ms: int = 0
    chain: str | None = None
    """What it may not overtake: the deliveries of its webhook with the same chain (`store.chains`)."""
    by_hand: bool = False
    """Whether a person asked for it once more: whatever comes of it says nothing of how the webhook does."""


class Outcome(Struct, frozen=True, gc=False):
    """What came of one attempt. `error` is None where the receiver accepted (2xx)."""

    started_ms: int
    duration_s: float
    error: AttemptError | None = None
    detail: str = ""
    response_code: int | None = None
    response_head: bytes = b""
    """The answer's status line and header fields as received, without the blank line."""
    response_body: bytes = b""
    """At most the first 4 KiB."""
    remote_address: str | None = None
    """`203.0.113.7:443`, or None where no connection was made."""
    phases: str | None = None
    """How long each step took (`rules.phases`); None where the connection was there already."""
    reason: str = ""
    """Of a failure, what operators are told in place of `detail`, in the log and in the history (`rules.told`)."""


class Verdict(Struct, frozen=True, gc=False):
    """What follows from an outcome for its delivery."""

    state: DeliveryState
    strikes: int
    due_ms: int | None = None
    """When the next attempt is due (unix milliseconds); None where there is none."""


class WebhookFields(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a person may say of a webhook, in a file or over the API: one definition for all who ask or show it.

    Types only; `rules.webhook.check` holds the rules that a type cannot say.
    """

    url: str
    events: list[str]
    description: str = ""
    tenant: str = "default"
    secret: str | None = None
    rate_limit: str | None = None
    max_in_flight: int | None = None
    timeout: str | None = None
    retry: list[str] | str | None = None
    headers: dict[str, str] = {}
    ordered: bool = False
    metadata: dict[str, Any] = {}


class Trust(NamedTuple):
    """What TLS to a webhook rests on beside the system's authorities and `egress.ca_file`: paths of PEM files."""

    ca_file: str | None = None
    """Authorities that are trusted as well."""
    cert_file: str | None = None
    """What hookrelay shows a receiver that asks for a certificate, with the chain."""
    key_file: str | None = None
    """The key of `cert_file`; None where it stands in that file too."""


class LiveSecret(Struct, frozen=True):
    """A key that signs, and until when."""

    key: bytes
    until_ms: int | None = None
    """When it stops signing (unix milliseconds); None for the newest, which goes on."""


class Webhook(Struct, frozen=True, kw_only=True):
    """A subscription in force: every default filled in, every text turned into its value."""

    seq: int = 0
    """The store's key; 0 until the store has seen it."""
    id: str
    name: str = ""
    """What a file calls it; empty for those of the API."""
    tenant: str = "default"
    url: str
    events: tuple[str, ...]
    description: str = ""
    status: WebhookStatus = "active"
    disabled_reason: str | None = None
    rate_limit: str | None = None
    max_in_flight: int = 8
    timeout_s: float = 30.0
    retry: tuple[str, ...] | str
    """As it was written, for showing."""
    delays: tuple[float, ...]
    """Seconds before each attempt, the first included."""
    headers: tuple[tuple[str, str], ...] = ()
    ordered: bool = False
    metadata: dict[str, Any] = {}
    secrets: tuple[bytes, ...]
    """Keys that sign, newest first."""
    trust: Trust | None = None
    held: Literal["deliver", "discard"] = "deliver"
    """What becomes of held deliveries when it becomes active again."""
    source: str = "api"
    created_ms: int = 0
    updated_ms: int = 0

    @property
    def is_missing(self) -> bool:
        """Whether no file names it any more: what is for it is held until one does, or it is removed."""
        return self.disabled_reason == MISSING


# --- whose fault ------------------------------------------------------------------------------------------------


class FieldError(Struct, frozen=True):
    """One thing wrong with one field, and what would be right."""

    field: str
    """Dotted path from the object's top, list items by index: `events.0`."""
    detail: str


class Refused(Exception):
    """The caller's request cannot be taken; the caller changes it. The only road to an error line or a 4xx."""

    def __init__(self, code: str, detail: str, field: str | None = None, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field
        self.errors = tuple(errors)


class ConfigMistake(Struct, frozen=True):
    """One mistake in a file or the environment, told so that its writer can mend it."""

    file: str
    """The file's path, or `environment`."""
    line: int | None
    key: str
    detail: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.key}: {self.detail}" if self.key else f"{where}: {self.detail}"


class ConfigError(Exception):
    """A person must change a file. Carries every mistake found, not only the first."""

    def __init__(self, mistakes: Sequence[ConfigMistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


class LocalTrouble(Exception):
    """This host must recover (disk, descriptors, memory): wait, and charge nobody."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


# --- ids --------------------------------------------------------------------------------------------------------

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
SEQ_LIMIT = 1 << 50


def _chars10(value: int) -> str:
    """50 bits as ten characters of Crockford's base 32."""
    return (
        _PAIRS[value >> 40 & 1023]
        + _PAIRS[value >> 30 & 1023]
        + _PAIRS[value >> 20 & 1023]
        + _PAIRS[value >> 10 & 1023]
        + _PAIRS[value & 1023]
    )


def _number(text: str) -> int:
    value = 0
    for character in text:
        value = value << 5 | _VALUES[character]
    return value


def random_ulid(ms: int, randomness: int) -> str:
    """A ULID (26 characters) of a unix time in milliseconds and 80 bits of `randomness`."""
    return _chars10(ms) + _chars10(randomness >> 30 & SEQ_LIMIT - 1) + _chars10(randomness & (1 << 30) - 1)[4:]


class Ids:
    """Public ids made from the store's integer keys, so that no id is stored or indexed.

    A ULID is 48 bits of time and 80 free bits. The free bits hold the key (50) and the store's own random tag (30):
    ids sort by time, then in order of acceptance; ids of two stores differ; and an id leads back to its row.
    """

    def __init__(self, tag: int) -> None:
        self._tag = _chars10(tag)[4:]
        self._ms = self._high = -1
        self._time = self._high_chars = ""

    def make(self, prefix: str, ms: int, seq: int) -> str:
        """The id of row `seq`, made at `ms`: `make("evt", …)` → `evt_01HQ3K5M7N…`."""
        if ms != self._ms:
            self._ms, self._time = ms, _chars10(ms)
        if seq >> 10 != self._high:
            self._high, self._high_chars = seq >> 10, _chars10(seq)[:8]
        return f"{prefix}_{self._time}{self._high_chars}{_PAIRS[seq & 1023]}{self._tag}"

    def attempt(self, ms: int, delivery_seq: int, number: int) -> str:
        """The id of attempt `number` (1-based) of a delivery."""
        return f"att_{_chars10(ms)}{_chars10(delivery_seq)}{_chars10(number)[6:]}{self._tag[4:]}"

    def seq(self, prefix: str, text: str) -> tuple[int, int] | None:
        """`(seq, ms)` that `text` stands for, or None where it is no id of this store with that prefix."""
        head, _, ulid = text.partition("_")
        if head != prefix or len(ulid) != 26 or ulid[20:] != self._tag or not _VALUES.keys() >= set(ulid):
            return None
        return _number(ulid[10:20]), _number(ulid[:10])

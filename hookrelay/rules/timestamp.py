"""Is this an RFC 3339 time, and what is it in UTC? As text throughout: no digit of its fraction is lost."""

import re
from calendar import monthrange
from datetime import datetime, timedelta

_FRACTION = r"(?P<fraction>\.[0-9]{1,9})?"
# most of what comes, good without a look into the calendar: in UTC, and of a day that every month has
_PLAIN = re.compile(
    r"(?!0000)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    + _FRACTION
    + "Z"
)
_ANY = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    + _FRACTION
    + r"(?:[Zz]|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):(?P<minutes>[0-5][0-9]))"
)


def to_utc(text: str) -> str | None:
    """The same instant in UTC, with `T`, `Z` and its fraction as given; None where `text` is no RFC 3339 time.

    A leap second stands only where one may: in the last minute, by UTC, of a month's last day (RFC 3339 §5.7).
    """
    if _PLAIN.fullmatch(text):
        return text
    match = _ANY.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59))
        if match["sign"] is not None:
            offset = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"]))
            moment += offset if match["sign"] == "-" else -offset
    except (ValueError, OverflowError):
        return None
    if second > 59 and not (
        second == 60 and f"{moment:%H:%M}" == "23:59" and moment.day == monthrange(moment.year, moment.month)[1]
    ):
        return None
    return f"{moment.isoformat()[:16]}:{second:02d}{match['fraction'] or ''}Z"

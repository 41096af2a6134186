"""A delivery's request as commands for a shell. Whatever customers put into it is data there, and runs nothing."""

from collections.abc import Iterable

from hookrelay import __version__

INLINE_MOST = 6_000
"""Bytes of a body that stands in the commands; a longer one is read from a file."""


def commands(url: str, own: Iterable[str], event_id: str, body: str | None, file: str) -> str:
    """What sends the same once more, signed anew with the secret that whoever runs it puts in.

    `own` are the names of the webhook's own header fields, whose values are not told. The body is read from `file`
    where `body` is None. No comment stands among the lines: zsh takes `#` for a command as it is typed.
    """
    fields = [
        "content-type: application/json",
        f"user-agent: hookrelay/{__version__}",
        f"webhook-id: {event_id}",
        f"idempotency-key: {event_id}",
        *(f"{name}: ..." for name in own),
    ]
    if body is None:
        given, signed, sent = [], f"{{ printf '%s.%s.' {event_id} \"$NOW\"; cat {file}; }}", f"@{file}"
    else:
        given, signed, sent = [f"BODY={_quoted(body)}"], f'printf \'%s.%s.%s\' {event_id} "$NOW" "$BODY"', '"$BODY"'
    lines = [
        "SECRET='whsec_...'",
        *given,
        "NOW=$(date +%s)",
        "KEY=$(printf %s \"${SECRET#whsec_}\" | base64 -d | od -An -v -tx1 | tr -d ' \\n')",
        f"SIGNATURE=$({signed} |",
        '  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$KEY" -binary | base64)',
        # brackets in the URL are no pattern
        f"curl --globoff -i {_quoted(url)} \\",
        *(f"  -H {_quoted(field)} \\" for field in fields),
        '  -H "webhook-timestamp: $NOW" \\',
        '  -H "webhook-signature: v1,$SIGNATURE" \\',
        f"  --data-binary {sent}",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """One word of a shell's command, whatever stands in it."""
    return "'" + text.replace("'", "'\\''") + "'"

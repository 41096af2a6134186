"""Every way in which an attempt can fail is told in words."""

from typing import get_args

from hookrelay.model import AttemptError
from hookrelay.web.dashboard.reasons import DISABLED, ERRORS, NAMES, of_attempt, short


def test_every_error_has_a_name_and_says_what_helps():
    known = set(get_args(AttemptError)) - {"http_status"}
    assert NAMES.keys() == ERRORS.keys() == known
    for code in known:
        assert (short(code, None), of_attempt(code, None)) == (NAMES[code], ERRORS[code])
    assert DISABLED.keys() == {"gone", "failing", "missing_from_files"}


def test_every_status_has_a_meaning_and_a_success_has_none():
    for status in range(300, 600):
        assert short("http_status", status) == f"HTTP {status}"
        assert of_attempt("http_status", status)[-1] in ".?"
    assert (short(None, 204), of_attempt(None, 204), short(None, None)) == ("204", "", "")

"""Secrets at rest: sealed for their owner, opened by the keys that are there, and told apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.store.seal import CannotOpen, Seal

OLD, NEW = bytes(32), bytes(range(32))


@given(st.binary(), st.text(min_size=1, max_size=30), st.sampled_from([(), (OLD,), (NEW, OLD)]))
def test_what_was_closed_opens_for_its_owner_again(text: bytes, owner: str, keys: tuple[bytes, ...]):
    seal = Seal(keys)
    blob = seal.close(text, owner)
    assert seal.open(blob, owner) == text
    assert seal.is_current(blob)


def test_nothing_of_the_text_is_in_what_is_sealed_and_no_two_are_alike():
    text = b"whsec_of_somebody_and_a_password"
    blobs = {Seal([NEW]).close(text, "wh_1") for _ in range(100)}
    assert len(blobs) == 100
    assert not any(text[at : at + 4] in blob for blob in blobs for at in range(0, len(text), 4))


def test_a_blob_of_another_owner_does_not_open():
    seal = Seal([NEW])
    with pytest.raises(CannotOpen, match="damaged"):
        seal.open(seal.close(b"x", "wh_1"), "wh_2")


@pytest.mark.parametrize("at", [0, 5, 17, 20, -1])
def test_a_blob_in_which_one_bit_is_wrong_does_not_open(at: int):
    blob = bytearray(Seal([NEW]).close(b"x" * 10, "wh_1"))
    blob[at] ^= 0x80
    with pytest.raises(CannotOpen):
        Seal([NEW]).open(bytes(blob), "wh_1")


@pytest.mark.parametrize("length", [0, 1, 4, 10, 20])
def test_a_blob_that_was_cut_does_not_open(length: int):
    blob = Seal([NEW]).close(b"x" * 10, "wh_1")[:length]
    with pytest.raises(CannotOpen):
        Seal([NEW]).open(blob, "wh_1")


def test_what_an_older_key_has_sealed_opens_and_is_to_be_sealed_anew():
    blob = Seal([OLD]).close(b"x", "wh_1")
    rotated = Seal([NEW, OLD])
    assert rotated.open(blob, "wh_1") == b"x"
    assert not rotated.is_current(blob)
    assert rotated.is_current(rotated.close(b"x", "wh_1"))


def test_what_was_plain_opens_and_is_to_be_sealed():
    blob = Seal().close(b"x", "wh_1")
    assert Seal([NEW]).open(blob, "wh_1") == b"x"
    assert not Seal([NEW]).is_current(blob)


def test_where_there_is_a_key_what_is_plain_opens_in_a_migration_only():
    plain = Seal().close(b"text", "wh_1")
    sealed = Seal([NEW])
    assert sealed.open(plain, "wh_1", may_be_plain=True) == b"text"
    with pytest.raises(CannotOpen, match="wh_1 are kept in plain"):
        sealed.open(plain, "wh_1", may_be_plain=False)
    assert Seal().open(plain, "wh_1", may_be_plain=False) == b"text"


def test_without_the_right_key_the_error_says_what_to_do_and_names_the_owner():
    blob = Seal([NEW]).close(b"x", "wh_1")
    with pytest.raises(CannotOpen, match=r"wh_1 are sealed: set store\.key_file"):
        Seal().open(blob, "wh_1")
    with pytest.raises(CannotOpen, match=r"wh_1 are sealed with a key that store\.key_file lacks"):
        Seal([OLD]).open(blob, "wh_1")
    assert not Seal().is_current(blob)

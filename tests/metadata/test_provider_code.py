"""The 27-character provider code. TC260-PG-20252A, GB 32100, GB 11643."""

import pytest

from llm_label.errors import SettingsError
from llm_label.metadata.provider_code import check_producer, parse

# Seen in public files; each has a correct check character.
REAL = ["001191440300708461136T1XGW3", "001191110102MAD55U9H0F10002", "001191310104MACE0YX63918020"]
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Made for this test from the rule, for nobody: area 110101, born 1990-01-01, sequence 001.
IDENTITY = "11010119900101001"


def identity_check(digits: str) -> str:
    """Find the check by the definition of ISO 7064: from the right, the sum of a_i * 2^(i-1) = 1 mod 11."""
    for check in range(11):
        values = [*map(int, digits), check]
        if sum(value * 2**power for power, value in enumerate(reversed(values))) % 11 == 1:
            return "X" if check == 10 else str(check)
    raise AssertionError


INDIVIDUAL = f"0021{IDENTITY}{identity_check(IDENTITY)}10001"


@pytest.mark.parametrize("code", [*REAL, INDIVIDUAL])
def test_real_codes_pass_and_come_apart(code: str) -> None:
    parts = parse(code)
    assert str(parts) == code
    assert (parts.format, parts.service, len(parts.subject)) == ("00", "1", 18)
    assert check_producer(code) == code


@pytest.mark.parametrize("code", REAL)
def test_every_change_of_one_character_of_the_credit_code_fails(code: str) -> None:
    for position in range(4, 22):
        for char in ALPHABET.replace(code[position], ""):
            with pytest.raises(SettingsError):
                check_producer(code[:position] + char + code[position + 1 :])


def test_every_change_of_one_character_of_the_identity_number_fails() -> None:
    for position in range(4, 22):
        for char in ALPHABET.replace(INDIVIDUAL[position], ""):
            with pytest.raises(SettingsError) as caught:
                check_producer(INDIVIDUAL[:position] + char + INDIVIDUAL[position + 1 :])
            assert IDENTITY[:12] not in str(caught.value), "an identity number is personal"


@pytest.mark.parametrize("code", REAL)
def test_neighbours_swapped_in_the_credit_code_fail(code: str) -> None:
    for i in range(4, 21):
        if code[i] != code[i + 1]:
            with pytest.raises(SettingsError):
                check_producer(code[:i] + code[i + 1] + code[i] + code[i + 2 :])


REFUSED = [
    ("01" + REAL[0][2:], "format"),
    ("003" + REAL[0][3:], "subject type"),
    ("0012" + REAL[0][4:], "binding"),
    (REAL[0][:22] + "31234", "service"),
    (REAL[0][:22] + "00001", "positions 23-27"),
    (REAL[0][:22] + "2XGW3", "propagation"),
    (REAL[0][:-1], "has 26"),
    (REAL[0] + "0", "has 28"),
    (REAL[0].lower(), "0-9 A-Z"),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZ1", "format"),
    ("某某科技有限公司", "27-character provider code instead"),
    ("ACME Inc", "27-character provider code instead"),
    ("ACME\\x", "27-character"),
    ("ACME\r\nX: y", "27-character"),
    ("", "empty"),
    ("x" * 129, "allowed: 128"),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED)
def test_what_is_neither_a_name_nor_a_valid_code_is_refused_in_one_line(given: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        check_producer(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["ACME", "acme-ai.example", 'a"b', REAL[1][:22] + "00000", "0o1", "00x"])
def test_names_in_the_character_set_and_codes_without_service_pass(given: str) -> None:
    assert check_producer(given) == given


def test_no_message_offers_the_right_check_character() -> None:
    """A mistyped code must not be completed to a well-formed false one."""
    wrong = REAL[0][:21] + "0" + REAL[0][22:]
    with pytest.raises(SettingsError) as caught:
        check_producer(wrong)
    assert REAL[0][:22] not in str(caught.value)

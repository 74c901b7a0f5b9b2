"""The 27-character provider code of TC260-PG-20252A, checked to the last character.

    00 1 1 91310104MACE0YX639 1 8020
    |  | | |                  | └ model or application, chosen by the provider
    |  | | |                  └ service: 1 generation, 2 propagation, 0 (with 0000) not used
    |  | | └ subject: unified social credit code (GB 32100) or identity number (GB 11643)
    |  | └ binding: what kind of number the subject is
    |  └ subject type: 1 organisation, 2 individual
    └ format

Nothing here makes up a code: a well-formed false one is worse than none.
"""

import re
from dataclasses import dataclass
from datetime import date

from llm_label.errors import SettingsError
from llm_label.metadata.aigc import fits_charset

__all__ = ["ProviderCode", "check_producer", "parse"]

LENGTH = 27
NAME_LIMIT = 128  # characters; the record travels in a header
_SHAPE = re.compile(r"[0-9A-Z]{27}")
# A code with a character lost, doubled or in lower case: never a name that somebody chose.
_ATTEMPT = re.compile(r"00[12][0-9A-Za-z]{17,31}")

# GB 32100-2015: no I, O, S, V, Z; weights 3^(i-1) mod 31.
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
# GB 11643-1999: ISO 7064 mod 11-2.
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"


@dataclass(frozen=True)
class ProviderCode:
    """The parts of a valid code."""

    format: str  # "00"
    subject_type: str  # "1" organisation, "2" individual
    binding: str  # "1": unified social credit code or identity number
    subject: str  # 18 characters
    service: str  # "1" generation, "2" propagation, "0" not used
    application: str  # 4 characters

    def __str__(self) -> str:
        return self.format + self.subject_type + self.binding + self.subject + self.service + self.application


def parse(code: str) -> ProviderCode:
    """Split a code into its parts and check each. Raises SettingsError naming position and remedy."""
    if not _SHAPE.fullmatch(code):
        raise SettingsError(f"a provider code has {LENGTH} characters 0-9 A-Z; {code!r} has {len(code)}")
    parts = ProviderCode(code[:2], code[2], code[3], code[4:22], code[22], code[23:])
    if parts.format != "00":
        raise _wrong("positions 1-2 (format)", parts.format, "00")
    if parts.subject_type not in "12":
        raise _wrong("position 3 (subject type)", parts.subject_type, "1 organisation, 2 individual")
    if parts.binding != "1":
        known = "1 (unified social credit code, or identity number); other bindings cannot be checked"
        raise _wrong("position 4 (binding)", parts.binding, known)
    (_check_uscc if parts.subject_type == "1" else _check_identity)(parts.subject)
    if parts.service not in "012":
        raise _wrong("position 23 (service)", parts.service, "1 generation, 2 propagation, 0 not used")
    if parts.service == "0" and parts.application != "0000":
        raise _wrong("positions 23-27", code[22:], "00000 when no service is named")
    return parts


def check_producer(name_or_code: str) -> str:
    """Return the producer's name or code unchanged, or refuse it with the reason. Raises SettingsError."""
    if _SHAPE.fullmatch(name_or_code) or _ATTEMPT.fullmatch(name_or_code):
        parts = parse(name_or_code)
        if parts.service == "2":
            raise _wrong("position 23 (service)", "2 (propagation)", "1 (generation) for a producer")
        return name_or_code
    if not name_or_code:
        raise SettingsError("the provider name is empty; give a name or the 27-character provider code")
    if not fits_charset(name_or_code):
        raise SettingsError(
            f"the provider name {name_or_code!r} does not fit Annex E of GB 45438 (ASCII without spaces and "
            "backslashes); give the 27-character provider code instead"
        )
    if len(name_or_code) > NAME_LIMIT:
        raise SettingsError(f"the provider name has {len(name_or_code)} characters; allowed: {NAME_LIMIT}")
    return name_or_code


def _check_uscc(subject: str) -> None:
    if foreign := [c for c in subject if c not in _USCC_ALPHABET]:
        raise _wrong("positions 5-22 (unified social credit code)", foreign[0], "0-9 A-Z without I O S V Z")
    total = sum(w * _USCC_ALPHABET.index(c) for w, c in zip(_USCC_WEIGHTS, subject, strict=False))
    check = _USCC_ALPHABET[(31 - total % 31) % 31]
    if subject[17] != check:
        # The expected character is not named: it would turn a mistyped code into a well-formed false one.
        raise SettingsError(
            f"provider code: the check character of the unified social credit code {subject} is wrong; "
            "compare positions 5-22 with the licence"
        )


def _check_identity(subject: str) -> None:
    # Identity numbers are personal: no message repeats them.
    if not re.fullmatch(r"[0-9]{17}[0-9X]", subject):
        raise SettingsError("provider code: positions 5-22 are no identity number (17 digits, then 0-9 or X)")
    try:
        date(int(subject[6:10]), int(subject[10:12]), int(subject[12:14]))
    except ValueError as error:
        raise SettingsError("provider code: the identity number holds no possible date of birth") from error
    total = sum(w * int(c) for w, c in zip(_ID_WEIGHTS, subject, strict=False))
    if subject[17] != _ID_CHECKS[total % 11]:
        raise SettingsError("provider code: the check character of the identity number is wrong")


def _wrong(where: str, given: str, allowed: str) -> SettingsError:
    return SettingsError(f"provider code: {where} is {given!r}; allowed: {allowed}")

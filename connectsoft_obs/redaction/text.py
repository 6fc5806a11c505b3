"""Finds and replaces secrets in free text: private keys, JWTs, credentials, cookies, URLs, connection strings, card numbers.

Every expression is bounded, so the time is proportional to the length of the text for any input, and redacted text does
not match again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from connectsoft_obs.redaction.keys import REDACTED, SECRET_KEY_NAMES
from connectsoft_obs.redaction.query_strings import QueryStringRedactor

Rule: TypeAlias = tuple[tuple[str, ...], re.Pattern[str], str]
"""Lower-case substrings of which the text must contain one, the expression that is applied then, and its
replacement."""

_RULES: Final[tuple[Rule, ...]] = (
    (
        ("private key-----",),
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        REDACTED,
    ),
    (("eyj",), re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]{1,4096}){0,3}"), REDACTED),
    (
        ("bearer", "basic"),
        re.compile(r"\b((?i:bearer|basic)[ \t]{1,4}+)(?!REDACTED\b)(?=[^\s\"'0-9=]{0,4096}+[0-9=])[\w.~+/=-]{8,}"),
        rf"\g<1>{REDACTED}",
    ),
    (
        ("authorization",),
        re.compile(
            r"(authorization[\"']?+\s{0,4}+[:=]\s{0,4}+[\"']?+(?:[A-Za-z]{2,20}+[ \t]{1,4}+)?+)(?!REDACTED\b)[^\s\"',;]{4,}",
            re.IGNORECASE,
        ),
        rf"\g<1>{REDACTED}",
    ),
    (
        ("cookie",),
        re.compile(r"((?:set-)?cookie[\"']?+\s{0,4}+[:=]\s{0,4}+[\"']?+)(?!REDACTED\b)[^\r\n\"']+", re.IGNORECASE),
        rf"\g<1>{REDACTED}",
    ),
    # A password that contains a slash is recognized where no port can be.
    (
        ("://",),
        re.compile(
            r"(://[^/\s:@\"'\[]{0,256}:)(?!REDACTED@)"
            r"(?:[^/\s\"']{1,512}|(?!\d{1,5}[/?#])(?:[^/\s\"']|/(?!/)){1,128}?)(?=@)"
        ),
        rf"\g<1>{REDACTED}",
    ),
    # A token instead of a user name, as in https://ghp_...@github.com.
    (("://",), re.compile(r"(://)(?!REDACTED@)(?=[^/\s:@\"']{0,512}\d)[^/\s:@\"']{20,512}(?=@)"), rf"\g<1>{REDACTED}"),
)

# Names with an assigned value: `password=x`, `"token": "x"`. They are searched in lower case and each alternative
# begins with a literal character, which lets the regular expression engine skip text that cannot match: a tenth of the
# cost.
_ASSIGNMENT: Final = r"[\"'\]]{0,2}\s{0,4}+[=:]\s{0,4}+"
_ALWAYS_SECRET_NAMES: Final = re.compile(
    r"(?:password|passwd|passphrase|passcode|pwd|secret|credentials?|conn(?:ection)?[_ ]?string|private[_ -]?key|cvv|cvc|"
    r"card[_ -]?number)(?:_?hash)?" + _ASSIGNMENT
)
_OFTEN_SECRET_NAMES: Final = re.compile(
    rf"(?:token|authorization|auth|jwt|sig(?:nature)?|{SECRET_KEY_NAMES}){_ASSIGNMENT}"
)
_ALWAYS_SECRET_PARTS: Final = (
    "passw",
    "passp",
    "passc",
    "pwd",
    "secret",
    "credential",
    "conn",
    "private",
    "cvv",
    "cvc",
    "card",
)
_OFTEN_SECRET_PARTS: Final = ("token", "auth", "jwt", "sig", "key")
_QUOTED: Final = r"\"(?!REDACTED\")(?:[^\"\\]|\\.)+\"|'(?!REDACTED')(?:[^'\\]|\\.)+'"
_UNQUOTED: Final = r"(?!REDACTED\b|[\"'])[^\s;,&\"'<>}\])]+"
_VALUE: Final = re.compile(f"{_QUOTED}|{_UNQUOTED}")
_VALUE_TO_SEMICOLON: Final = re.compile(rf"{_QUOTED}|(?!REDACTED\b)[^;&\"'\r\n]{{1,512}}+(?=;)|{_UNQUOTED}")
_LONG_VALUE: Final = re.compile(r"[\"']?[\w.~+/=-]{12}")
_EMAIL: Final = re.compile(r"[\w.%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")

_MAX_HARMLESS_LENGTH: Final = 11
"""Maximum characters of a text that is too short for a card number, token, key or header, as ids and words are."""

_CARD: Final = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){8,15}(?![\w-]|\.\d)")
_POSSIBLE_CARD: Final = re.compile(r"[2-6]\d{3}[ -]?\d{4,6}[ -]?\d")
_CARD_ISSUER: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|"
    r"3(?:0[0-5]|[689]\d)\d{11}|(?:6011|65\d\d|64[4-9]\d|62\d\d|35(?:2[89]|[3-8]\d))\d{12,15}|(?:50|5[6-8])\d{10,17}"
)


class TextRedactor:
    """Replaces secrets in text. Immutable and thread-safe.

    Args:
        emails: also replace e-mail addresses.
        pattern: an additional expression whose matches are replaced.
        queries: replaces the values of secret parameters in URLs.
    """

    def __init__(self, emails: bool, pattern: re.Pattern[str] | None, queries: QueryStringRedactor) -> None:
        self._emails = emails
        self._pattern = pattern
        self._queries = queries

    def may_contain_secret(self, text: str) -> bool:
        """Cheap test before `redact()`: True for every text with a secret, and for some without."""
        if "=" in text or ":" in text or (self._emails and "@" in text):
            return True
        if len(text) > _MAX_HARMLESS_LENGTH:
            if "eyJ" in text or "-----" in text:
                return True
            low = text.lower()
            if "earer" in low or "basic" in low or _POSSIBLE_CARD.search(text) is not None:
                return True
        return self._pattern is not None and self._pattern.search(text) is not None

    def redact(self, text: str) -> tuple[str, int]:
        """The text with its secrets replaced, and the number of replacements."""
        low, count = text.lower(), 0
        for parts, expression, replacement in _RULES:
            if _contains_any(parts, low):
                text, number = expression.subn(replacement, text)
                count += number
        if "=" in text and ("?" in text or "#" in text):
            text, number = self._queries.redact_urls(text)
            count += number
        for parts, names, always in (
            (_ALWAYS_SECRET_PARTS, _ALWAYS_SECRET_NAMES, True),
            (_OFTEN_SECRET_PARTS, _OFTEN_SECRET_NAMES, False),
        ):
            if _contains_any(parts, low):
                text, number = _redact_assignments(text, names, always)
                count += number
        if _POSSIBLE_CARD.search(text) is not None:
            text, number = _redact_cards(text)
            count += number
        if self._emails and "@" in text:
            text, number = _EMAIL.subn(REDACTED, text)
            count += number
        if self._pattern is not None:
            before = text
            text = self._pattern.sub(REDACTED, before)
            count += text != before
        return text, count


def is_card_number(digits: str) -> bool:
    """Whether digits are a payment card number: known issuer prefix, length of that issuer, valid Luhn check digit."""
    if _CARD_ISSUER.fullmatch(digits) is None:
        return False
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(number - 9 if number > 9 else number for number in doubled)) % 10 == 0


def _redact_assignments(text: str, names: re.Pattern[str], always: bool) -> tuple[str, int]:
    """Replace the values in pairs such as `name=value` and `"name": "value"`, and count them.

    After a colon, the value of a name that is not always secret is replaced only if it is long or quoted in JSON.
    """
    low = text.lower()
    if len(low) != len(text):  # lower() replaces some characters by two
        low = "".join([character.lower() if character.isascii() else character for character in text])
    parts, done, count = [], 0, 0
    for match in names.finditer(low):
        begin = match.end()
        if match.start() < done:
            continue
        is_json_member = match[0].endswith(('":', "':", '": ', "': ")) and text[begin : begin + 1] in {'"', "'"}
        if not always and ":" in match[0] and not is_json_member and _LONG_VALUE.match(text, begin) is None:
            continue
        value = (_VALUE_TO_SEMICOLON if always else _VALUE).match(text, begin)
        if value is not None:
            quote = text[begin] if text[begin] in "\"'" else ""
            parts += [text[done:begin], quote, REDACTED, quote]
            done = value.end()
            count += 1
    return ("".join([*parts, text[done:]]), count) if count else (text, 0)


def _redact_cards(text: str) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if not is_card_number(match[0].replace(" ", "").replace("-", "")):
            return match[0]
        count += 1
        return REDACTED

    return _CARD.sub(replace, text), count


def _contains_any(parts: Sequence[str], text: str) -> bool:
    for part in parts:  # noqa: SIM110  a generator expression costs more than the search
        if part in text:
            return True
    return False

"""What must not be in a log: which keys name a secret, and which parts of a text are one.

Every expression here is bounded, so that no text, whoever wrote it, takes more than time in proportion to its length;
and what was replaced is not found again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import REDACTED

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")

_KEYS: Final = "|".join(
    f"{what}[_ -]?key"
    for what in (
        "api", "app", "access", "account", "subscription", "storage", "master", "function", "host", "signing", "encryption",
        "service", "license", "ssh", "secret",
    )
)  # fmt: skip
# Words that make a key secret wherever they stand in it, and words that do so as its last one: `token_count` is a
# number of tokens, `password_old` is a password.
_ANYWHERE: Final = r"pass(?:word|wd|phrase|code)|pwd|secret|credential|private_?key|conn(?:ection)?_?str(?:ing)?"
_LAST: Final = rf"token|auth|authorization|cookies?|jwt|bearer|cvv|cvc|card_?number|credit_?card|{_KEYS}"
_SECRET_KEY: Final = re.compile(rf"(?:{_ANYWHERE})|(?:{_LAST})$")
_SAYS_NOTHING: Final = frozenset({
    "header", "headers", "value", "values", "text", "string", "raw", "base64", "b64", "plain", "hash", "old", "new", "current",
    "confirm", "confirmation",
})  # fmt: skip
_ABOUT: Final = frozenset({
    "age", "arn", "at", "changed", "count", "created", "enabled", "expired", "expires", "expiry", "expiration", "field", "file",
    "fingerprint", "id", "ids", "len", "length", "limit", "manager", "name", "names", "path", "policy", "provider", "ref",
    "reference", "required", "rotation", "status", "store", "type", "types", "updated", "uri", "url", "valid", "version",
})  # fmt: skip

Rule: TypeAlias = tuple[tuple[str, ...], re.Pattern[str], str]
"""Lower-case parts of which one must be in a text, the expression to look for then, and what replaces it."""

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
        ("cookie",),
        re.compile(r"((?:set-)?cookie[\"']?+\s{0,4}+[:=]\s{0,4}+[\"']?+)(?!REDACTED\b)[^\r\n\"']+", re.IGNORECASE),
        rf"\g<1>{REDACTED}",
    ),
    (("://",), re.compile(r"(://[^/\s:@\"']{0,256}:)(?!REDACTED@)[^/\s@\"']{1,512}(?=@)"), rf"\g<1>{REDACTED}"),
)

# Names to which something is given, as text says it: `password=x`, `"token": "x"`. They are looked for in lower case and
# each begins with its own letter, because that lets the engine skip what cannot match: a tenth of the cost.
_GIVEN: Final = r"[\"'\]]{0,2}\s{0,4}+[=:]\s{0,4}+"
_HARD_NAMES: Final = re.compile(
    r"(?:password|passwd|passphrase|passcode|pwd|secret|credentials?|conn(?:ection)?[_ ]?string)(?:_?hash)?" + _GIVEN
)
_SOFT_NAMES: Final = re.compile(rf"(?:token|authorization|auth|jwt|sig(?:nature)?|{_KEYS}){_GIVEN}")
_HARD_PARTS: Final = ("passw", "passp", "passc", "pwd", "secret", "credential", "conn")
_SOFT_PARTS: Final = ("token", "auth", "jwt", "sig", "key")
_QUOTED: Final = r"\"(?!REDACTED\")(?:[^\"\\]|\\.)+\"|'(?!REDACTED')(?:[^'\\]|\\.)+'"
_BARE: Final = r"(?!REDACTED\b|[\"'])[^\s;,&\"'<>}\])]+"
_SOFT_VALUE: Final = re.compile(f"{_QUOTED}|{_BARE}")
_HARD_VALUE: Final = re.compile(rf"{_QUOTED}|(?!REDACTED\b)[^;&\"'\r\n]{{1,512}}+(?=;)|{_BARE}")
_LONG: Final = re.compile(r"[\"']?[\w.~+/=-]{12}")
_EMAIL: Final = re.compile(r"[\w.%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")

_SHORT: Final = 11
"""Characters that no card number, token, key or header fits into; ids and words are that short."""

_CARD: Final = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){8,15}(?![\w-]|\.\d)")
_MAYBE_CARD: Final = re.compile(r"[2-6]\d{3}[ -]?\d{4,6}[ -]?\d")
_ISSUED: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|"
    r"3(?:0[0-5]|[689]\d)\d{11}|(?:6011|65\d\d|64[4-9]\d|62\d\d|35(?:2[89]|[3-8]\d))\d{12,15}|(?:50|5[6-8])\d{10,17}"
)


class Redaction:
    """Tells keys and texts that hold secrets. Immutable and thread-safe.

    Args:
        settings: what to look for besides what everybody keeps secret.
    """

    def __init__(self, settings: Settings) -> None:
        own = ["_".join(_words(word)) for word in settings.redact_keys]
        self._own_keys = re.compile(rf"(?:^|_)(?:{'|'.join(map(re.escape, own))})(?:_|$)") if any(own) else None
        self._emails = settings.redact_emails
        self._own = settings.redact_pattern

    def secret(self, key: str) -> bool:
        """Whether the value of a field with this name is a secret."""
        words = _words(key)
        while words and words[-1].isdecimal():
            words.pop()
        whole = "_".join(words)
        if self._own_keys is not None and self._own_keys.search(whole):
            return True
        while words and words[-1] in _SAYS_NOTHING:
            words.pop()
        if not words or words[-1] in _ABOUT:
            return False
        return _SECRET_KEY.search(whole) is not None or _SECRET_KEY.search("_".join(words)) is not None

    def looks_secret(self, text: str) -> bool:
        """Whether a text must be looked at: a cheap question that is true for every text with a secret."""
        if "=" in text or ":" in text or (self._emails and "@" in text):
            return True
        if len(text) > _SHORT:
            if "eyJ" in text or "-----" in text:
                return True
            low = text.lower()
            if "earer" in low or "basic" in low or _MAYBE_CARD.search(text) is not None:
                return True
        return self._own is not None and self._own.search(text) is not None

    def redact_text(self, text: str) -> tuple[str, int]:
        """The text without its secrets, and how many there were."""
        low, found = text.lower(), 0
        for parts, expression, replace in _RULES:
            if _any(parts, low):
                text, number = expression.subn(replace, text)
                found += number
        for parts, names, hard in ((_HARD_PARTS, _HARD_NAMES, True), (_SOFT_PARTS, _SOFT_NAMES, False)):
            if _any(parts, low):
                text, number = _without_given(text, names, hard)
                found += number
        if _MAYBE_CARD.search(text) is not None:
            text, number = _without_cards(text)
            found += number
        if self._emails and "@" in text:
            text, number = _EMAIL.subn(REDACTED, text)
            found += number
        if self._own is not None:
            before = text
            text = self._own.sub(REDACTED, before)
            found += text != before
        return text, found


def card(digits: str) -> bool:
    """Whether digits are the number of a payment card: an issuer's prefix, its length, and the check digit of Luhn."""
    if _ISSUED.fullmatch(digits) is None:
        return False
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(number - 9 if number > 9 else number for number in doubled)) % 10 == 0


def _without_given(text: str, names: re.Pattern[str], hard: bool) -> tuple[str, int]:
    """The text without what is given to these names; to a soft one, a colon gives only what is long enough."""
    low = text.lower()
    if len(low) != len(text):  # some letters become two
        low = "".join([character.lower() if character.isascii() else character for character in text])
    kept, done, found = [], 0, 0
    for match in names.finditer(low):
        begin = match.end()
        if match.start() < done or (not hard and ":" in match[0] and _LONG.match(text, begin) is None):
            continue
        value = (_HARD_VALUE if hard else _SOFT_VALUE).match(text, begin)
        if value is not None:
            quote = text[begin] if text[begin] in "\"'" else ""
            kept += [text[done:begin], quote, REDACTED, quote]
            done = value.end()
            found += 1
    return ("".join([*kept, text[done:]]), found) if found else (text, 0)


def _without_cards(text: str) -> tuple[str, int]:
    found = 0

    def replaced(match: re.Match[str]) -> str:
        nonlocal found
        if not card(match[0].replace(" ", "").replace("-", "")):
            return match[0]
        found += 1
        return REDACTED

    return _CARD.sub(replaced, text), found


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key)]


def _any(parts: Sequence[str], text: str) -> bool:
    for part in parts:  # noqa: SIM110  a generator costs more than the search
        if part in text:
            return True
    return False

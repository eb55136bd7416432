"""Where personal data stands in a text, by kind.

email and ip start from the patterns of presidio-analyzer, phone from the metadata of libphonenumber, card from the lengths and
first digits of the issuers (ISO/IEC 7812) and the check digit (Luhn, US patent 2950048), iban from the length by country and the
check digits (ISO 13616). What looks the same and is none is left out: dates, netmasks, versions, scopes of programs (`abc::def`),
and numbers that the words before call an order, a ticket, a device ... (`context_words`).
"""

import ipaddress
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import phonenumbers

from engine.contract.prompts import Entity
from engine.prompts.context_words import context

MAX_EMAIL_CHARS = 320  # RFC 3696, erratum 1690
MIN_SCORE = 0.4  # of presidio; matches below are patterns that fit almost anything, such as `::`
REGIONS = tuple("US GB DE FR IN IT NL BE AT CH SE IE AU NZ JP KR ZA TR IL BR".split())
"""Countries whose national numbers are found without a word that calls them a phone."""
MORE_REGIONS = tuple("ES PT PL DK NO FI CZ GR HU RO MX RU UA CN SG HK".split())
"""Countries whose national numbers need such a word: they have no trunk prefix, or one that many numbers have."""
ISSUERS = (  # first digits, numbers of digits
    ("4", (16, 19)),
    ("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),
    ("3[47]|1", (15,)),
    ("30[0-5]|3095|3[689]", (14, 16, 17, 18, 19)),
    ("35(2[89]|[3-8])", (16, 17, 18, 19)),
    ("6011|62|64[4-9]|65|81", (16, 17, 18, 19)),
    ("50|5[6-8]|6", (14, 15, 16, 17, 18, 19)),
    ("220[0-5]", (16, 17, 18, 19)),
    ("82|9792|8600|9860", (16,)),
)
IBAN_LENGTHS = {  # of the registry of ISO 13616
    entry[:2]: int(entry[2:])
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 "
        "FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 "
        "LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 "
        "RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}
FEWEST_IBAN_DIGITS = 8
LONG_PHONE = 10  # digits of an international number that is taken for one though libphonenumber knows no subscribers there
CARD_GROUPS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1), (8, 8)}

_TOKEN = re.compile(r"[^\s,;<>()\[\]{}\"]*@[^\s,;<>()\[\]{}\"]*")
_IMAGE = re.compile(r"@[\d.]+x\.\w+$")  # logo@2x.png
_SPACE = r"[ \t\u00a0\u2007\u2009\u202f]"
_GAP = rf"(?:{_SPACE}?[-.\u2010-\u2013]{_SPACE}?|{_SPACE})?"
_DIGITS = re.compile(rf"(?<!\w)(?<!\d\.)\d(?:{_GAP}\d){{11,}}(?!\w)")
_GROUP = re.compile(r"\d+")
_IBAN = re.compile(r"(?<![^\W_])([A-Za-z]{2})(?=[0-9]{2}|[ ][0-9]{2})")
_IBAN_TEXT = re.compile(rf"(?:[A-Za-z0-9]{_GAP}){{15,34}}")
_DATE = re.compile(
    r"(?<![\d./-])(?:(?:19|20)\d\d([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:19|20)\d\d|\d{1,2}([/.])\d{1,2}\3\d\d"
    r"|(?:19|20)\d\d ?[-\u2013/] ?(?:19|20)\d\d)(?![./-]?\d)"
)
_PHONE = re.compile(r"(?<!\w)(?:\(?\+\(?|\()?\d(?:[ \u00a0\u202f()./\-\u2010-\u2013]{0,3}\d){6,40}(?!\w)")
_INTERNATIONAL = re.compile(r"\(?\+|00[1-9]|011[ -]")
_NATIONAL = re.compile(  # with a trunk prefix or an area code in brackets; as in the US, in India and in Brazil
    r"\(?0\d|0 ?\(|0 \d\d|\(\d|(?:1[-. ])?[2-9]\d\d[-. ][2-9]\d\d[-. ]\d{4}(?!\d)|[6-9]\d{4}[- ]\d{5}(?!\d)"
    r"|[1-9]\d 9?\d{4}-\d{4}(?!\d)"
)


class Span(NamedTuple):
    """Characters of a text that are replaced."""

    start: int
    end: int
    kind: Entity


def _emails(text: str) -> Iterator[Span]:
    """Search token by token: presidio's pattern takes a minute for 20,000 characters without white space."""
    for token in _TOKEN.finditer(text):
        if len(token[0]) > MAX_EMAIL_CHARS:
            yield Span(*token.span(), "email")
        else:
            yield from (Span(token.start() + s, token.start() + e, "email") for s, e in _matches("email", token[0]))


def _phones(text: str) -> Iterator[Span]:
    without_dates = _DATE.sub(lambda match: "x" * len(match[0]), text)
    for candidate in _PHONE.finditer(without_dates):
        what = context(text, candidate.start())
        if what in ("", "phone"):
            for start, end in _phones_in(candidate[0], is_named=what == "phone"):
                span = Span(candidate.start() + start, candidate.start() + end, "phone")
                if not _is_glued(text, span):
                    yield span


def _phones_in(candidate: str, *, is_named: bool) -> list[tuple[int, int]]:
    """Return where phone numbers stand in a run of digits and separators; `is_named`: the words before call it a phone."""
    if _INTERNATIONAL.match(candidate):
        regions: tuple[str, ...] = ("DE", "US") if candidate.startswith("0") else ("US",)
    elif is_named:
        regions = REGIONS + MORE_REGIONS
    elif _NATIONAL.match(candidate):
        regions = REGIONS
    else:
        return []
    found = _matched(candidate, regions, phonenumbers.Leniency.VALID)
    if not is_named:
        found = {span for span in found if _is_written_as_phone(candidate[slice(*span)])}
    if not found and (is_named or "+" in candidate[:2]):  # numbers of fiction have no subscribers, 555-0123 has no area
        found = _matched(candidate, regions[:2], phonenumbers.Leniency.POSSIBLE)
        found = {span for span in found if is_named or _digits_in(candidate[slice(*span)]) >= LONG_PHONE}
    return sorted(found)


def _matched(candidate: str, regions: Sequence[str], leniency: int) -> set[tuple[int, int]]:
    found = (phonenumbers.PhoneNumberMatcher(candidate, region, leniency=leniency) for region in regions)
    return {(match.start, match.end) for matches in found for match in matches}


def _is_written_as_phone(number: str) -> bool:
    """Whether a number that no word calls a phone is written like one, and not like an ISBN, a decimal or a short code."""
    if re.match(r"0[-.]", number) or _digits_in(number) < (8 if number.startswith(("+", "(")) else 9):
        return False
    return bool(_INTERNATIONAL.match(number) or _NATIONAL.match(number))


def _digits_in(text: str) -> int:
    return sum(character.isdigit() for character in text)


def _is_glued(text: str, span: Span) -> bool:
    """Whether a number is part of a longer name (PO-16927, 1646-C)."""
    before, after = text[max(span.start - 2, 0) : span.start], text[span.end : span.end + 2]
    return bool(re.search(r"\w[-/_]?$", before) or re.match(r"[-/_]?\w", after))


def _cards(text: str) -> Iterator[Span]:
    for run in _DIGITS.finditer(text):
        groups = [(run.start() + group.start(), run.start() + group.end()) for group in _GROUP.finditer(run[0])]
        what = context(text, run.start())
        before = text[max(run.start() - 2, 0) : run.start()]
        if what in ("number", "device") or (what != "card" and re.search(r"\w[-/_]$", before)):
            continue
        first = 0
        while first < len(groups):
            last = _card_end(text, groups, first, is_named=what == "card")
            if last:
                yield Span(groups[first][0], groups[last - 1][1], "card")
            first = last or first + 1


def _card_end(text: str, groups: list[tuple[int, int]], first: int, *, is_named: bool) -> int:
    """Return one more than the index of the last group of the card that begins with the group `first`; 0 if none does.

    In a longer run of digits only the groups that cards are printed in count.
    """
    for last in range(min(len(groups), first + 6), first, -1):
        sizes = tuple(end - start for start, end in groups[first:last])
        is_whole = first == 0 and last == len(groups) and (len(sizes) == 1 or (sizes[0] >= 4 and min(sizes[:-1]) >= 3))
        digits = "".join(str(int(digit)) for start, end in groups[first:last] for digit in text[start:end])
        if (is_whole or sizes in CARD_GROUPS) and len(digits) <= 19 and is_card(digits, is_named=is_named):
            return last
    return 0


def is_card(digits: str, *, is_named: bool = False) -> bool:
    """Return whether `digits` has the first digits and the length of an issuer, and a right check digit.

    Maestro's 12 digits need a word that calls it a card (`is_named`), 13 digits of old Visa cards one if they are a right EAN, too.
    """
    if not passes_luhn(digits):
        return False
    if len(digits) == 13 and digits[0] == "4":
        is_ean = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0
        return is_named or not is_ean
    if len(digits) in (12, 13):
        return is_named and bool(re.match("50|5[6-8]|6", digits))
    return any(len(digits) in lengths and re.match(first, digits) for first, lengths in ISSUERS)


def passes_luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of the others."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _ibans(text: str) -> Iterator[Span]:
    """Any case, any groups: the country says how many characters belong to the number, the check digits whether it is one."""
    for country in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(country[1].upper())
        if not length or (not country[1].isupper() and text[country.end()] == " "):
            continue
        written = _IBAN_TEXT.match(text, country.start())
        places = [country.start() + place for place, character in enumerate(written[0] if written else "") if character.isalnum()]
        number = "".join(text[place] for place in places[:length]).upper()
        end = places[length - 1] + 1 if len(places) >= length else 0
        if end and not text[end : end + 1].isalnum() and is_iban(number):
            yield Span(country.start(), end, "iban")


def is_iban(number: str) -> bool:
    """Return whether the check digits of `number`, in capitals and without spaces, are right (ISO 7064, MOD 97-10)."""
    digits = "".join(str(int(character, 36)) for character in number[4:] + number[:4])
    return _digits_in(number) >= FEWEST_IBAN_DIGITS and int(digits) % 97 == 1


def _ips(text: str) -> Iterator[Span]:
    for start, end in _matches("ip", text):
        if _is_address(text, start, end):
            yield Span(start, end, "ip")


def _is_address(text: str, start: int, end: int) -> bool:
    """Whether a match of the pattern is no version, netmask, network of everything, or scope of a program."""
    address = ipaddress.ip_interface(text[start:end]).ip
    if isinstance(address, ipaddress.IPv6Address):
        is_used = not address.is_reserved or address.is_loopback or address.ipv4_mapped is not None
        return is_used and any(character.isdigit() for character in text[start:end])
    before, after = text[max(start - 10, 0) : start], text[end : end + 2]
    if re.search(r"\d\.$|[A-Za-z][/_-]$|[=~]=$", before) and not re.search(
        r"\b(?:ip|host|node|server)[/_-]$", before, re.IGNORECASE
    ):
        return False
    if re.match(r"\.\d|[-_+]?[A-Za-z]", after):
        return False
    return (
        not _is_mask(str(address))
        and not str(address).endswith(".0.0.0")
        and context(text, start, lists=True) not in ("number", "phone")
    )


def _is_mask(address: str) -> bool:
    """Whether `address` is a netmask such as 255.255.255.0, or its inverse."""
    try:
        ipaddress.IPv4Network(f"0.0.0.0/{address}")
    except ValueError:
        return False
    return True


FINDERS: dict[Entity, Callable[[str], Iterator[Span]]] = {
    "email": _emails, "phone": _phones, "card": _cards, "iban": _ibans, "ip": _ips,
}  # fmt: skip


def _matches(kind: Entity, text: str) -> list[tuple[int, int]]:
    recognizer = _recognizers()[kind]
    matches = recognizer.analyze(text, recognizer.supported_entities, None) or []
    return [(match.start, match.end) for match in matches if match.score >= MIN_SCORE]


@cache
def _recognizers() -> dict[Entity, Any]:
    with _without_modules("torch", "transformers"):
        from presidio_analyzer import predefined_recognizers as presidio

    class AnyEmail(presidio.EmailRecognizer):
        """Does not use the list of public suffixes, which would be downloaded. `3@4.50` is a price, `logo@2x.png` a file."""

        def validate_result(self, pattern_text: str) -> bool:
            return not pattern_text.rpartition(".")[2].isdigit() and not _IMAGE.search(pattern_text)

    return {"email": AnyEmail(), "ip": presidio.IpRecognizer()}


@contextmanager
def _without_modules(*modules: str) -> Iterator[None]:
    """Make imports of `modules` fail. Presidio then takes 3 s and 110 MB a process instead of 25 s and 1 GB."""
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None makes an import fail, as if not installed
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)

"""A made-up corpus with and without personal data, and how much of it is found. The same seed gives the same lines.

    python tests/redaction_corpus.py

Numbers come from ranges that are reserved for fiction, documentation or tests (phones of the US, the UK, France, Germany, Australia
and Sweden; RFC 5737, 3849 and 2606; the published test cards; the examples of the registry of IBANs), elsewhere they are the
examples of libphonenumber. Names are made of syllables.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import phonenumbers

from engine.contract.prompts import Entity

KINDS: tuple[Entity, ...] = ("email", "phone", "card", "iban", "ip")
CARDS = """
4111111111111111 4012888888881881 4000056655665556 4222222222222 5555555555554444 5200828282828210 5105105105105100
2223003122003222 2223000048410010 2720990000000007 378282246310005 371449635398431 6011111111111117 6011000990139424
30569309025904 38520000023237 3530111333300000 3566002020360505 6200000000000005 6205500000000000004 6304000000000000
6759649826438453 2200000000000004 4000000000000000006 6500000000000002
""".split()
IBANS = """
DE89370400440532013000 GB29NWBK60161331926819 FR1420041010050500013M02606 NL91ABNA0417164300 BE68539007547034 AT611904300234573201
CH9300762011623852957 ES9121000418450200051332 IT60X0542811101000000123456 PL61109010140000071219812874 SE4550000000058398257466
NO9386011117947 DK5000400440116243 FI2112345600000785 PT50000201231234567890154 IE29AIBK93115212345678 CZ6508000000192000145399
HU42117730161111101800000000 GR1601101250000000012300695 LU280019400644750000 TR330006100519786457841326 SA0380000000608010167519
AE070331234567890123456 MT84MALT011000012345MTLCAST001S BR1800360305000010009795493C1
""".split()
AROUND = (
    "We wrote to them and got {} back last week",
    "{} is all that stood on the paper",
    "Hello, since Monday nothing has come. {} Thanks",
    "It said ({}), nothing else",
    "Bitte notieren: {}. Danke",
    "Merci de noter {} dans le dossier",
)
CALLS = ("Call me at {}", "My phone is {}", "Tel.: {}", "Fax {}", "Telefon {} ab neun", "Mobile: {}", "WhatsApp {} please")
ASKS = ("Write to {}", "My address is {}.", "Mail: {}", "from <{}> to us", "cc {}, thanks")
PAYS = ("Charge my card {}", "{} was declined", "Visa {} exp 12/27", "Karte: {}", "We paid with {} yesterday")
BANKS = ("IBAN {}", "Please refund to {} soon", "Konto {} bei der Bank", "iban: {}", "to {}, holder unknown")
HOSTS = ("The server {} is down", "ping {}", "login from {} failed", "http://{}/index.html", "IP: {}")


class Line(NamedTuple):
    """One line of the corpus."""

    text: str
    kind: str
    """One of KINDS; "" = nothing in it is personal."""
    value: str
    """What has to be replaced."""


def corpus(lines: int, seed: int = 0) -> list[Line]:
    """Return `lines` lines: three of five with one personal datum, two without."""
    rng = random.Random(seed)
    return [_personal(rng) if number % 5 < 3 else _other(rng) for number in range(lines)]


def _personal(rng: random.Random) -> Line:
    kind = rng.choice(KINDS)
    frames, write = WRITERS[kind]
    value = write(rng)
    frame = rng.choice((*frames, *AROUND))
    return Line(frame.format(value), kind, value)


def _name(rng: random.Random) -> str:
    return "".join(rng.choice("lo ma ri ta ne ku sa vi do pe".split()) for _ in range(rng.randint(2, 3)))


def _email(rng: random.Random) -> str:
    joiner, host = (
        rng.choice(".-_+"),
        rng.choice(("example.org", "example.com", "shop.example.co.uk", "mail.example.net", "x.example")),
    )
    address = f"{_name(rng)}{joiner}{_name(rng)}@{host}"
    return rng.choice((address, address.upper(), address.replace(joiner, str(rng.randint(1, 99)), 1)))


def _digits(rng: random.Random, pattern: str) -> str:
    return "".join(str(rng.randint(0, 9)) if character == "~" else character for character in pattern)


FICTION = (
    "(212) 555-01~~", "415-555-01~~", "+1 303 555 01~~", "1-512-555-01~~", "312.555.01~~",
    "020 7946 0~~~", "+44 20 7946 0~~~", "0161 496 0~~~", "+44 1632 960~~~", "0131 496 0~~~",
    "01 99 00 ~~ ~~", "+33 1 99 00 ~~ ~~", "01.99.00.~~.~~", "030 23125 ~~~", "+49 30 23125~~~", "069 90009~~~", "0171 39200~~",
    "+49 (0)171 39200~~", "(02) 5550 ~~~~", "0491 570 156", "+61 491 570 156", "08-465 004 ~~", "+46 8 465 004 ~~",
)  # fmt: skip


def _phone(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return _digits(rng, rng.choice(FICTION))
    region = rng.choice("IT NL BE AT CH IE NZ JP KR ZA TR IL BR IN ES PT PL DK NO FI CZ GR RO SG".split())
    example = phonenumbers.example_number_for_type(region, rng.choice((0, 1)))
    form = rng.choice((phonenumbers.PhoneNumberFormat.INTERNATIONAL, 2, phonenumbers.PhoneNumberFormat.E164))
    text = phonenumbers.format_number(example, form)
    return text.replace(" ", rng.choice((" ", " ", "-", ".")))


def _card(rng: random.Random) -> str:
    digits = rng.choice(CARDS)
    sizes = {15: (4, 6, 5), 14: (4, 6, 4), 13: (13,)}.get(len(digits), (4, 4, 4, 4, 3))
    return _grouped(digits, sizes, rng.choice(("", "", " ", "-", "\u00a0", ".")))


def _iban(rng: random.Random) -> str:
    number = rng.choice(IBANS)
    number = rng.choice((number, number.lower(), number))
    return _grouped(number, (4,) * 8 + (2,), rng.choice(("", " ", " ", "-", "\u00a0")))


def _grouped(text: str, sizes: Sequence[int], gap: str) -> str:
    parts, place = [], 0
    for size in sizes:
        parts.append(text[place : place + size])
        place += size
    return gap.join(part for part in parts if part)


def _ip(rng: random.Random) -> str:
    forms = "192.0.2.~ 198.51.100.1~ 203.0.113.2~ 192.168.0.1~ 2001:db8::1~ 2001:db8:0:1:0:0:0:~"
    return _digits(rng, rng.choice(forms.split()))


WRITERS: dict[str, tuple[tuple[str, ...], Callable[[random.Random], str]]] = {
    "email": (ASKS, _email), "phone": (CALLS, _phone), "card": (PAYS, _card), "iban": (BANKS, _iban), "ip": (HOSTS, _ip),
}  # fmt: skip

OTHERS = (
    """
Order 20~~-11-0~~~ has not arrived | order number 41~~~~~~~~ | Bestellnummer 0~~~~~~~~~ fehlt | Commande 01 2~ 3~ 4~ 5~
Ticket 415-555-2~~~ is open | ticket no. 0161 496 0~~~ | case #0~~~-~~~~~~~ | paid on 03.04.20~~ | on 20~~-01-15 at 10:30
between 19~~ - 20~~ we used 1~~-2~~ | Time 09:00-17:30 on 12/05/20~~ | Version 1.2.~.~ broke it | firmware 10.~.1~.2 is new
from version 4.~.0.1 to 4.~.0.2 | Chrome/11~.0.0.0 on it | see section 4.2.1.~ | lib-1.2.3.~.tar.gz | OID 1.3.6.1.4.1.~~
netmask 255.255.255.0 | mask 255.255.240.0 or 255.255.0.0 | wildcard 0.0.0.255 | abc::def is a method | call std::face::add
dead::beef in the code | a::b | ends with xxxx-xxxx | card XXXX-XXXX-XXXX-1~~~ | IMEI 35209900176148~ | device 3520990017614~~
serial 555-1234-5~~~ | S/N 0~~~-~~~~-~~~~ | ISBN 978-3-16-148410-0 | EAN 4006381333931 | tracking 1Z 999 AA1 01 2345 6~~~
part 4711-0815 | Article 12 345 6~~ | price 1 234 5~~,89 | GPS 52.520~~~, 13.404~~~ | Batch 20~~0115 10~~
Scores 21-19 15-21 21-1~ | PO-169~~ | number 16~~-C | KX-522~~/7 | DE 123456~~~ is the VAT id
id 550e8400-e29b-41d4-a716-44665544~~~~ | mac 00:1a:2b:3c:4d:~~ | commit 4f2a9c1e | 3 mugs @ 4.~~ | logo@2x.png is blurred
react@18.2.~ | pi is 3.14159265358~~~~ | invoice 0012345~~~ | DE12 3456 is a shelf | no 1234 5678 9012 345~ | tax 12/345/678~~
Account 12-34-56 1234~~~~ | meter 01234567~~ | room 0x.1~ | sum of 4 111 111 111 | timestamp 17000000~~~~~
x = 0.4111111111111111
""".strip()
    .replace("\n", " | ")
    .split(" | ")
)


def _other(rng: random.Random) -> Line:
    text = _digits(rng, rng.choice(OTHERS))
    return Line(rng.choice(("{}", "{} and so on", "Hello, {}.", "He said: {}!")).format(text), "", "")


class Score(NamedTuple):
    """How a finder did on a kind."""

    precision: float
    recall: float
    found: int
    there: int


Found = tuple[str, int, int]
"""Kind, start and end of what was found in a text."""


def score(lines: Sequence[Line], find: Callable[[str], list[Found]]) -> dict[str, Score]:
    """Return the score of each kind. What is found counts as right if it covers the whole value and at most one character more."""
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for line in lines:
        start = line.text.find(line.value)
        spans = find(line.text)
        found.update(kind for kind, _, _ in spans)
        ends = [(s - start, e - start - len(line.value)) for kind, s, e in spans if kind == line.kind]
        right[line.kind] += any(-1 <= before <= 0 <= after <= 1 for before, after in ends)
    there = Counter(line.kind for line in lines)
    return {
        kind: Score(right[kind] / max(found[kind], 1), right[kind] / max(there[kind], 1), found[kind], there[kind])
        for kind in KINDS
    }


def ours(text: str) -> list[Found]:
    """Find with the redaction of Rayleigh."""
    from engine.prompts.redact import spans

    return [(span.kind, span.start, span.end) for span in spans(text, KINDS)]


def presidio() -> Callable[[str], list[Found]]:
    """Return a finder of the recognizers of presidio alone, those that need no language model; matches of at least 0.4."""
    from presidio_analyzer import predefined_recognizers as recognizers

    email = recognizers.EmailRecognizer()
    email.validate_result = lambda pattern_text: True  # else the list of public suffixes would be downloaded
    card, iban, ip = recognizers.CreditCardRecognizer(), recognizers.IbanRecognizer(), recognizers.IpRecognizer()
    by_kind = dict(zip(KINDS, (email, recognizers.PhoneRecognizer(), card, iban, ip), strict=True))

    def find(text: str) -> list[Found]:
        found: list[Found] = []
        for kind, recognizer in by_kind.items():
            matches = recognizer.analyze(text, recognizer.supported_entities, None) or []
            spans = {(match.start, match.end) for match in matches if match.score >= 0.4}
            inner = {a for a in spans for b in spans if a != b and b[0] <= a[0] and a[1] <= b[1]}
            found += [(kind, *span) for span in spans - inner]
        return found

    return find


if __name__ == "__main__":
    print(f"{'':10}{'kind':8}{'precision':>10}{'recall':>10}{'found':>8}{'there':>8}")
    for name, finder in {"rayleigh": ours, "presidio": presidio()}.items():
        for kind, result in score(corpus(2_000), finder).items():
            print(f"{name:10}{kind:8}{result.precision:10.3f}{result.recall:10.3f}{result.found:8}{result.there:8}")

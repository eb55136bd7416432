"""Words before a number that say what it is, in English, German, French, Spanish, Italian, Dutch and Portuguese."""

import re
from typing import Literal

Context = Literal["phone", "card", "number", "device", ""]
"""What the words name: a phone, a payment card, a numbered thing (order, version), a device or account; "" = nothing known."""

SEARCHED_CHARS = 80  # before the number
MOST_WORDS = 12

_WORD = re.compile(r"[^\W_]+|#")
_FIELD = re.compile(r"\d\s*[,;|\t]")
_SHORT = re.compile(r"\b([sp])/n\b")  # serial number, part number
_WORDS: dict[Context, frozenset[str]] = {
    "phone": frozenset(
        "phone call dial text sms whatsapp ring reach contact fax cell cellular tel ph mob hotline viber signal telegram handy "
        "anruf ruf rufe fon appelez appeler portable gsm llame llamar celular celulare chiama chiamare bel bellen ligue "
        "ligar".split()
    ),
    "card": frozenset(
        "card visa mastercard amex maestro discover diners jcb unionpay rupay mir credit debit cc pan karte carte tarjeta carta "
        "kaart cartao".split()
    ),
    "number": frozenset(
        "# order ticket invoice receipt booking reservation confirmation tracking parcel shipment consignment waybill package po "
        "ref reference rma case claim bug batch lot sku ean upc gtin isbn issn doi asin barcode article part pn item product "
        "policy "
        "contract id uuid guid hash commit version ver v release firmware build revision rev driver kernel chapter section clause "
        "paragraph figure table step code gps coordinate latitude longitude price total amount sum score flight aktenzeichen az "
        "artikel auftrag charge kapitel abschnitt commande facture colis version pedido factura ordine fattura articolo lotto "
        "bestelling factuur artigo encomenda fatura chapitre capitulo capitolo".split()
    ),
    "device": frozenset(
        "account device serial sn imei imeisv imsi iccid meid sensor meter model machine unit asset vat tax passport licence "
        "license plate member kontonummer konto compte cuenta conto rekening conta".split()
    ),
}
_STEMS: dict[Context, tuple[str, ...]] = {
    "phone": ("telef", "telep", "t\u00e9l\u00e9p", "tel\u00e9f", "handyn", "mobil", "m\u00f3v"),
    "card": ("kreditk", "cart\u00e3o"),
    "number": tuple(
        "bestell rechnung auftrag artikel art\u00edc ticketn sendung vorgang versi vers\u00e3o c\u00f3d kundenn".split()
    ),
    "device": ("serien", "ger\u00e4te", "kontonu"),
}
_NUMBER = frozenset("number no nr num n numero numer nummer n\u00famero num\u00e9ro".split())
_HOLDERS = frozenset("customer client patient employee member user".split())  # "customer number"
_OWNED = frozenset("my our his her their mein meine unsere mon notre mi mio mijn meu".split())
_PASSED = _NUMBER | _OWNED | frozenset(
    "is was are be the a an of and or to at on in under me us him them back via by for please now directly through from until your "
    "this with ist lautet war der die das und oder unter bis mich uns bitte est le la les et ou au sur es el o y al i il e su op "
    "is de het en x".split()
)  # fmt: skip


def context(text: str, start: int, *, lists: bool = False) -> Context:
    """Return what the words before the character `start` of `text`, on the same line, call the number that begins there.

    The nearest word of a list decides. Articles, prepositions and other numbers are passed over; any other word ends the search, as
    does a comma after another number, unless `lists`: in "order 12, 0161 496 0000" it begins another field. "my number" without
    another noun means a phone.
    """
    line = _SHORT.sub(r"\1n", text[max(start - SEARCHED_CHARS, 0) : start].rpartition("\n")[2].lower())
    line = line if lists else _FIELD.split(line)[-1]
    is_number = is_owned = False
    for word in reversed(_WORD.findall(line)[-MOST_WORDS:]):
        if found := _context_of(word):
            return found
        if is_number and word in _HOLDERS:
            return "number"
        is_number, is_owned = is_number or word in _NUMBER, is_owned or word in _OWNED
        if word not in _PASSED and not any(character.isdigit() for character in word):
            break
    return "phone" if is_number and is_owned else ""


def _context_of(word: str) -> Context:
    for name, words in _WORDS.items():
        if word in words or word.removesuffix("s") in words:
            return name
    for name, stems in _STEMS.items():
        if word.startswith(stems):
            return name
    return ""

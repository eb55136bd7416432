"""Numbers and units as people and models write them: round trips by locale, units, and orders of magnitude."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checks import CheckInput, mathematics, run_checks
from engine.checks.mathematics import Equality
from engine.checks.numbers import Unreadable, read_quantity
from engine.contract.checks import Mathematics, Numeric, Reference
from engine.contract.judges import Accept
from engine.grading.routing import Evidence, route

NARROW, HARD, MINUS, TIMES, DOT = "\u202f", "\u00a0", "\u2212", "\u00d7", "\u00b7"
LOCALES = {  # locale -> (thousands separator, decimal mark), as in CLDR
    "en-US": (",", "."), "de-DE": (".", ","), "fr-FR": (NARROW, ","), "de-CH": ("\u2019", "."), "sv-SE": (HARD, ","),
    "pl-PL": (HARD, ","), "pt-BR": (".", ","), "ru-RU": (HARD, ","), "it-IT": (".", ","),
    "tr-TR": (".", ","), "ja-JP": (",", "."), "es-MX": (",", "."),
}  # fmt: skip
MATH = Mathematics(type="math")
NUMERIC = Numeric(type="numeric", reference=Reference())


@pytest.fixture(scope="module", autouse=True)
def same_process():
    equality = Equality()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mathematics, "_worker", lambda *given: equality)
        yield


def tag(check, answer, reference, **inputs):
    [result] = run_checks([check], CheckInput(answer, reference=reference, **inputs))
    return result.tag


def unit(name, **settings_of_check):
    return Numeric(type="numeric", unit=name, reference=Reference(), **settings_of_check)


DECIMALS = st.decimals(-(10**9), 10**9, places=3) | st.decimals(-(10**5), 10**5, places=2) | st.integers(-(10**12), 10**12)
WRITTEN = {  # one value, in forms of all kinds
    "power of ten": "{m}e{e}", "capital": "{m}E{e:+d}", "times": f"{{m}} {TIMES} 10^{{e}}", "dot": f"{{m}}{DOT}10^{{{{{{e}}}}}}",
    "latex": r"{m} \times 10^{{{e}}}", "dollars": r"${m} \cdot 10^{{{e}}}$", "stars": "{m}*10**{e}",
}  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(DECIMALS, st.sampled_from(sorted(LOCALES)), st.booleans())
def test_number_of_a_locale_is_read_as_it_was_written(value, locale, is_typeset):
    thousands, mark = LOCALES[locale]
    text = f"{Decimal(value):,}".translate({ord(","): thousands, ord("."): mark})
    text = text.replace("-", MINUS) if is_typeset else text
    assert read_quantity(text, locale).values[0] == Decimal(value)


@settings(deadline=None, max_examples=200)
@given(DECIMALS, st.sampled_from(sorted(LOCALES)))
def test_number_without_a_language_is_read_as_written_or_among_two_readings(value, locale):
    thousands, mark = LOCALES[locale]
    text = f"{Decimal(value):,}".translate({ord(","): thousands, ord("."): mark})
    assert Decimal(value) in read_quantity(text).values
    assert tag(NUMERIC, text, str(value)) in ("", "unreadable_number")


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 9999), st.integers(-12, 20), st.sampled_from(sorted(WRITTEN)), st.sampled_from([-3, -1, 1, 3]))
def test_no_other_order_of_magnitude_passes(mantissa, exponent, form, shift):
    answer = WRITTEN[form].format(m=mantissa / 100, e=exponent)
    right, wrong = (str(Decimal(mantissa).scaleb(exponent - 2 + moved)) for moved in (0, shift))
    for check in (NUMERIC, MATH):
        tags = [tag(check, *pair, language="en") for pair in ((answer, right), (right, answer), (answer, wrong), (wrong, answer))]
        assert tags == ["", "", "off_reference", "off_reference"]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 999), st.sampled_from(["{} million", "{}k", "{} Mio.", "{} Mrd.", "{}%", "{} bn", "{}e3"]))
def test_magnitude_and_per_cent_never_pass_as_the_bare_number(number, form):
    for check in (NUMERIC, MATH):
        assert tag(check, form.format(number), str(number)) in ("off_reference", "unreadable_number")


PROSE = ["{}.", "The answer is {}.", "so we get ${}$ m", "**{}**", "= {}", "Answer: {} km"]
MISREAD = [  # (number, what a part of it is)
    ("1e6", "1"), (f"2.5 {TIMES} 10^3", "2.5"), ("10^6", "10"), ("5 million", "5"), ("5 billion", "5"), ("5K", "5"),
    ("5 Mio.", "5"), ("12 500", "500"), ("12.500,75", "12.5"), ("1.000.000", "1"), ("50%", "50"), (r"0.\overline{3}", "0"),
    ("1 1/2", "1"),
    (r"1\frac{1}{2}", "0.5"), ("1\u00bd", "1"), ("10\u00b2", "10"), ("2^{10}", "2"), ("1_000", "1"), ("2 dozen", "2"),
    ("1:10", "1"),
]  # fmt: skip


@pytest.mark.parametrize("sentence", PROSE)
def test_part_of_a_number_is_not_the_number_in_prose(sentence):
    for number, part in MISREAD:
        assert tag(MATH, sentence.format(number), part) and tag(MATH, part, sentence.format(number)), number


UNITS = [
    ("N*m", "Nm"), ("N*m", "N m"), ("N*m", f"N{DOT}m"), ("N*m", "N-m"), ("m**2", "m2"), ("m**2", "m\u00b2"), ("m**2", "sq m"),
    ("m**2", "square meters"), ("m**3", "cbm"), ("kg", "kgs"), ("kg", "Kg"), ("kg", "kg."), ("degC", "C"), ("degC", "\u00b0C"),
    ("degC", "\u2103"),
    ("degF", "degrees Fahrenheit"), ("m/s**2", f"m{DOT}s\u207b\u00b2"), ("m/s**2", "m s-2"), ("m/s**2", "m/s^2"),
    ("m/s", r"\text{ m/s}"), ("m/s", r"\ \mathrm{m\,s^{-1}}"), ("1/min", "1/min"), ("1/min", "/min"), ("1/min", "per minute"),
    ("1/min", "rpm"), ("km/h", "kmh"), ("ohm", "\u2126"), ("um", "\u00b5m"), ("J/(kg*K)", "J/(kg K)"), ("percent", "%"),
    ("hour", "hrs"),
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.integers(-999, 999), st.sampled_from(UNITS), st.sampled_from(["", " ", HARD, NARROW]))
def test_unit_is_read_as_people_write_it(number, names, space):
    name, written = names
    space = space or " " * written[0].isdigit()  # `01/min` is one number
    assert tag(unit(name), f"{number}{space}{written}", str(number)) == ""
    assert tag(unit(name), f"{number}{space}{written}", str(number + 1)) == "off_reference"


@pytest.mark.parametrize(
    ("check", "answer", "reference", "wanted"),
    [
        (unit("km"), "12 500 km", "12500 km", ""),
        (unit("N*m"), "5 mN", "5", "off_unit"),  # a millinewton, no metre newton
        (unit("km"), "5", "5 km", "off_unit"),
        (unit("km"), "12 50 km", "1250 km", "unreadable_number"),
        (unit("km"), "2 1/2 km", "2500 m", ""),
        (unit("1/min"), "1 Hz", "60", ""),
        (NUMERIC, "5 km", "5000 m", ""),
        (NUMERIC, "5 km", "5", "off_unit"),
        (NUMERIC, "5", "5 km", "off_unit"),
        (NUMERIC, "3 boxes", "3 boxes", ""),
        (NUMERIC, "$70,000", "$70000.00", ""),
        (NUMERIC, "1\u00bd", "1.5", ""),
        (NUMERIC, "0.(3)", "1/3", ""),
        (NUMERIC, r"0.1\overline{6}", "1/6", ""),
        (NUMERIC, "0.333...", "1/3", "unreadable_number"),
        (NUMERIC, "6.02 x 1023", "6.02e23", "unreadable_number"),
        (NUMERIC, "10\u00b2\u00b3", "1e23", ""),
        (NUMERIC, "1.2.3", "1.2", "unreadable_number"),
        (NUMERIC, "4-5", "4", "unreadable_number"),
        (NUMERIC, "5 crore", "50000000", ""),
        (NUMERIC, "maybe", "maybe", ""),
        (NUMERIC, "maybe", "perhaps", "no_reference"),
        (MATH, "1 1/2", "1.5", ""),
        (MATH, "1 1/2", "1", "off_reference"),
        (MATH, r"1\frac12", "1.5", ""),
        (MATH, "The total is 1e6.", "1000000", ""),
        (MATH, "The total is 1e6.", "1", "off_reference"),
        (MATH, "It is 0.000000001.", "0.00000001", "off_reference"),
        (MATH, "About 5 million people", "5000000", ""),
        (MATH, "12 km", "12000 m", ""),
        (MATH, "12 km", "12 m", "off_reference"),
        (MATH, "5 cm", "5", ""),
        (MATH, "50%", "0.5", ""),
        (MATH, "So it is 50%.", "50", "unreadable_number"),
        (MATH, "0.333...", "1/3", "unreadable_number"),
        (MATH, "2^{10}", "1024", ""),
        (MATH, "1{,}234", "1234", ""),
        (MATH, r"12\,500", "12500", ""),
        (MATH, "B", "B", ""),
        (MATH, r"Thus \boxed{B}", "B", ""),
        (MATH, "(B)", "B", ""),
        (MATH, "C", "B", "off_reference"),
        (MATH, "I choose the letter B", "B", "no_reference"),
        (MATH, "The answer is B.", "B", ""),
        (MATH, "So the range is [0, 1).", "[0, 1)", ""),
        (MATH, "Therefore we have a+b here", "a+b", "no_reference"),
        (MATH, "The answer is 14/3.", r"\frac{14}{3}", ""),
        (MATH, "even", r"\text{even}", ""),
        (MATH, "neve", "even", "off_reference"),
        (MATH, "x<2", "x<2", ""),
        (MATH, "2 > x", "x<2", ""),
        (MATH, "[1, 2]", "[1,2]", ""),
        (MATH, "[1, 3]", "[1,2]", "off_reference"),
        (MATH, "5x", "5y", "off_reference"),
    ],
)
def test_number_unit_or_text_is_compared_as_it_is_meant(check, answer, reference, wanted):
    assert tag(check, answer, reference) == wanted


@pytest.mark.parametrize(
    ("language", "answer", "reference", "wanted"),
    [
        ("de", "1.234,5", "1234.5", ""),
        ("de", "1.234", "1234", ""),
        ("de", "1,5 Mio.", "1500000", ""),
        ("de", "5 Billionen", "5e12", ""),
        ("de", "3.142", "3.142", ""),
        ("de", "1.234", "1.2340", "unreadable_number"),
        ("", "1,234", "1234", ""),
        ("", "70.000", "70000", "unreadable_number"),
        ("en", "1,234", "1.234", "off_reference"),
        ("en", "5 billion", "5e12", "off_reference"),
        ("es", "5 mil millones", "5e9", ""),
    ],
)
def test_language_of_the_prompt_decides_between_marks(language, answer, reference, wanted):
    assert tag(NUMERIC, answer, reference, language=language) == wanted


def test_number_of_json_has_no_language():
    check = Numeric(type="numeric", field="n", reference=Reference(field="n"), abs_tol=0.01)
    assert tag(check, '{"n": 1.235}', '{"n": 1.234}', language="de") == ""


@settings(deadline=None, max_examples=100)
@given(st.text("0123456789.,eE+-/^ '%km", max_size=12))
def test_reading_is_a_number_or_an_error_of_its_kind(text):
    try:
        assert read_quantity(text).values
    except ValueError as error:
        assert isinstance(error, Unreadable) or type(error).__name__ == "NotANumber"


SOLUTION = "She had 48/2 = <<48/2=24>>24 pens.\nTogether 48+24 = <<48+24=72>>72 pens.\n#### {}"


@pytest.mark.parametrize("kind", [Numeric, Mathematics])
@pytest.mark.parametrize(
    ("extract", "answer", "reference"),
    [
        ("hash_marks", "{}", SOLUTION),
        ("hash_marks", "So it is\n#### {}", SOLUTION),
        ("boxed", r"First 3, thus $\boxed{{{}}}$, not 5.", r"\boxed{{{}}}"),
        ("last_number", "The answer is {} pens.", SOLUTION),
        ("last_number", "From 1 to 2 it is {}.", "{}"),
        (r"answer is\s+(\S+) pens", "The answer is {} pens", "{}"),
    ],
)
def test_extraction_is_of_reference_and_answer(kind, extract, answer, reference):
    check = kind(type="numeric" if kind is Numeric else "math", reference=Reference(extract=extract))
    assert tag(check, answer.format(72), reference.format(72)) == ""
    assert tag(check, answer.format(24), reference.format(72)) == "off_reference"
    assert tag(check, answer.format("7.2e1"), reference.format("72")) == ""


def test_reference_without_extraction_has_the_dump_that_recipes_were_hashed_with():
    assert "extract" not in Reference().model_dump(mode="json")
    assert Reference(extract="boxed").model_dump(mode="json")["extract"] == "boxed"


@pytest.mark.parametrize("extract", ["box", "(a)(b)"])
def test_extraction_is_a_name_or_a_pattern_with_one_group(extract):
    with pytest.raises(ValueError, match="expected 1: the final answer, or one of boxed, hash_marks, last_number"):
        Reference(extract=extract)


def test_unreadable_number_goes_to_review_and_not_to_contrast():
    outcomes = run_checks([NUMERIC], CheckInput("0.333...", reference="1/3"))
    evidence = Evidence("0.333...", "stop", outcomes, agreement=1.0, confidence=None, is_judged=False)
    assert route(evidence, Accept()) == ("review", ["unreadable_number"])


def test_result_says_that_texts_were_compared_and_which_side_has_a_unit():
    [text] = run_checks([NUMERIC], CheckInput("maybe", reference="maybe"))
    [one_sided] = run_checks([MATH], CheckInput("5 cm", reference="5"))
    assert text.detail == "compared as text: the reference 'maybe' cannot be read"
    assert one_sided.detail == "only one side has a unit: '5 cm', expected 5"

"""Deterministic verifiers, chosen by `type`. `engine/checks` holds one function per type."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.contract.base import Name, Positive, Section, Share
from engine.contract.reference import Pattern, Reference, has_groups

LANGUAGES = frozenset(
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy ga gcf gcr "
    "gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv "
    "mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg "
    "th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu".split()
)
"""What py3langid tells apart."""


def _is_a_unit(unit: str) -> str:
    import pint

    try:
        pint.application_registry.parse_units(unit)
    except Exception:  # pint lets errors of its parser through
        raise ValueError(f"{unit!r} is not a unit that pint knows; write it as in kg, km/h, m^2 or degC") from None
    return unit


def _is_a_language(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"{code!r} is no language that can be told; expected one of {' '.join(sorted(LANGUAGES))}")
    return code


LanguageCode = Annotated[str, AfterValidator(_is_a_language)]

Wall = Literal["landlock", "seccomp", "namespaces"]


class Checked(Section):
    """What all checks have."""

    name: Name | None = None
    """By what reports call it; null: by its type."""
    task_units: tuple[str, ...] = ()
    """Only answers of these task units are looked at; none means of all."""

    @property
    def title(self) -> str:
        """By what reports call it."""
        return self.name or str(getattr(self, "type", ""))

    @property
    def wants_references(self) -> bool:
        """Whether an answer fails where its prompt brings no reference."""
        given = [one for one in vars(self).values() if isinstance(one, Reference)]
        return any(one.value is None and one.pattern is None and one.missing == "fail" for one in given)


class JsonSchema(Checked):
    """The answer parses as JSON and fits the task unit's schema."""

    type: Literal["json_schema"]


class Grounded(Checked):
    """Every value of the answer's JSON fields occurs in the prompt."""

    type: Literal["grounded"]
    fields: Literal["all"] | tuple[str, ...] = "all"


class Choice(Checked):
    """The answer, or a field of it, is one of `of`; null passes."""

    type: Literal["choice"]
    of: tuple[str, ...] = Field(min_length=1)
    field: str | None = None


class Regex(Checked):
    """The answer, or a field of it, matches `pattern` as a whole; null passes."""

    type: Literal["regex"]
    pattern: Pattern
    field: str | None = None


class Numeric(Checked):
    """The answer, or a field of it, is a number in [low, high] and near the reference; null passes."""

    type: Literal["numeric"]
    low: float | None = None
    high: float | None = None
    field: str | None = None
    unit: Annotated[str, AfterValidator(_is_a_unit)] | None = None
    """The answer must name a unit that converts to this one, in which bounds, reference and tolerance are meant. Null: no unit."""
    reference: Reference | None = None
    """Null compares with nothing."""
    absolute: float = Field(default=0, ge=0)
    """How far from the reference it may be."""
    relative: float = Field(default=0, ge=0)
    """The same, over the reference; the larger of both holds."""

    @model_validator(mode="after")
    def bounds_and_tolerance_make_sense(self) -> "Numeric":
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low and high: found {self.low:g} > {self.high:g}, so no number passes; swap them")
        if self.reference is None and (self.absolute or self.relative):
            raise ValueError("absolute and relative: there is nothing to be near to; add reference: {} for the prompt's own")
        return self


class Mathematics(Checked):
    """The answer, or a field of it, is mathematically equal to the reference: LaTeX or plain, as math-verify reads it."""

    type: Literal["math"]
    reference: Reference = Reference()
    field: str | None = None
    seconds: Positive = 5
    memory_mib: Positive = 1024


class Code(Checked):
    """The Python code of the answer passes tests, run in the sandbox."""

    type: Literal["code"]
    tests: Reference = Reference()
    """Python that raises where something is wrong; it sees the names of the answer."""
    field: str | None = None
    """Of a JSON answer, the field with the code. Else the first fenced block is the code, or all of the answer."""
    cpu_seconds: Positive = 5
    seconds: Positive = 15
    """By the clock."""
    memory_mib: Positive = 256
    """Of address space; Python itself takes about 30."""
    output_kib: Positive = 64
    """Of what it prints, and of the files in its folder."""
    walls: tuple[Wall, ...] = ("landlock", "seccomp")
    """Which must stand, or nothing is run. Those that a machine has besides are raised too."""


class Sql(Checked):
    """The query of the answer gives the rows that the reference query gives."""

    type: Literal["sql"]
    reference: Reference = Reference()
    """The right query."""
    setup: Reference = Reference(value="")
    """SQL that makes and fills the tables; for all prompts: `setup: {value: !include shop.sql}`."""
    field: str | None = None
    ordered: bool = False
    """Whether the order of the rows counts. Names of columns never do, their order does."""
    seconds: Positive = 5
    memory_mib: Positive = 256


class Citations(Checked):
    """What the answer cites stands in the prompt: the ids, and what is quoted, in the passages that it cites if it cites any."""

    type: Literal["citations"]
    cited: Annotated[str, has_groups(1, "the id of a passage")] = r"\[([\w.-]+)\]"
    """In the answer; its one group is the id of a passage."""
    passages: Annotated[str, has_groups(2, "the id of a passage, and its text")] = r"(?m)^\s*\[([\w.-]+)\]\s*(.+)$"
    """In the prompt; its two groups are the id of a passage and its text."""
    least: int = Field(default=1, ge=0)
    """Citations that an answer must have."""
    quoted_words: Positive = 3
    """What stands in double quotes and has so many words is a quotation."""
    field: str | None = None


class Language(Checked):
    """The answer is in one of `of`, as py3langid hears it. Of JSON, the text in its values."""

    type: Literal["language"]
    of: Literal["prompt"] | tuple[LanguageCode, ...] = "prompt"
    """`prompt`: the prompt's `language`, or what is heard in its text where the source does not say."""
    least_chars: Positive = 20
    """A shorter answer passes: its language cannot be told."""
    sure: Share = 0.5
    """Least probability of another language for the answer to fail."""


class Length(Checked):
    """The answer, or a field of it, is neither too short nor too long."""

    type: Literal["length"]
    unit: Literal["characters", "words", "tokens"] = "words"
    """`tokens`: words and signs, without a tokenizer; a model's own are more."""
    low: int = Field(default=0, ge=0)
    high: Positive | None = None
    field: str | None = None

    @model_validator(mode="after")
    def something_passes(self) -> "Length":
        if not self.low and self.high is None:
            raise ValueError("low and high: found neither, so everything passes; give one")
        if self.high is not None and self.low > self.high:
            raise ValueError(f"low and high: found {self.low} > {self.high}, so nothing passes; swap them")
        return self


class Repetition(Checked):
    """The answer does not say the same over and over: at most `share` of its n-grams occurred in it before."""

    type: Literal["repetition"]
    ngram: Positive = 3
    unit: Literal["word", "character"] = "word"
    """`character` for scripts without spaces."""
    share: Share = 0.3


class LeakedPrompt(Checked):
    """The answer does not repeat what it was told: the task unit's instruction, the prompt's system text, or one of `texts`."""

    type: Literal["leaked_prompt"]
    words: Positive = 8
    """So many words in a row, which the user did not write, are a repetition; of a shorter text, all of it."""
    texts: tuple[str, ...] = ()
    """What else must not be repeated, such as a teacher's system text (`&name` and `*name` let YAML say it once)."""


class Refusal(Checked):
    """The answer refuses where it must and only there. A refusal is a form of nulls, or begins with one of `phrases`."""

    type: Literal["refusal"]
    scenarios: tuple[str, ...] = ()
    """Prompts of these must be refused."""
    reference: Reference | None = None
    """Prompts whose reference is a refusal must be refused. With neither, none must."""
    phrases: tuple[str, ...] = (
        "i cannot", "i can't", "i can not", "i am unable", "i'm unable", "i am not able", "i'm not able", "i won't", "i will not",
        "i'm sorry", "i am sorry", "sorry, but", "i must decline", "as an ai",
    )  # fmt: skip
    """In the first 200 characters, as whole words, blind to case."""

    @model_validator(mode="after")
    def one_rule_decides(self) -> "Refusal":
        if self.scenarios and self.reference:
            raise ValueError("scenarios and reference: found both, expected one, or neither where no prompt must be refused")
        return self


class Policy(Checked):
    """The answer uses none of the words or phrases of a list."""

    type: Literal["policy"]
    bar: tuple[str, ...] = Field(min_length=1)
    """As whole words, blind to case and white space; usually `!include words.yaml`."""


class Tools(Checked):
    """A call of a tool succeeded, and what the answer states stands in the last result."""

    type: Literal["tools"]


Check = Annotated[
    JsonSchema | Grounded | Choice | Regex | Numeric | Mathematics | Code | Sql | Citations | Language | Length | Repetition
    | LeakedPrompt | Refusal | Policy | Tools,
    Field(discriminator="type"),
]  # fmt: skip

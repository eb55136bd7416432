"""jobs/contracts/README.md is what the models say, and the contract that it shows loads."""

import re
from pathlib import Path

import yaml

from engine.contract.contract import Contract
from engine.contract.document import HEAD, document

README = Path(__file__).parents[2] / "jobs" / "contracts" / "README.md"


def test_reference_is_up_to_date():
    assert README.read_text() == document(), "run: python -m engine.contract.document > jobs/contracts/README.md"


def test_head_is_short_and_its_contract_is_valid():
    text = HEAD.read_text()
    assert len(text.splitlines()) <= 60
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example and len(example[1].splitlines()) <= 25
    assert Contract.model_validate(yaml.safe_load(example[1])).students[0].name == "s"


def test_every_section_has_a_heading_that_its_links_reach():
    text = document()
    anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^### (.*)$", text, re.M)}
    assert set(re.findall(r"\]\(#(.*?)\)", text)) <= anchors

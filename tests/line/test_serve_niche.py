"""The check of the niche with the real encoder, in a process of its own beside a server."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from engine.contract.serving import NicheCheck
from engine.contract.specialist import Specialist
from engine.errors import ModelError
from engine.inference.locate import find, locate
from engine.inference.sentence_encoder import SentenceEncoder
from engine.serving import niche_engine
from engine.serving.niche import fit
from engine.serving.niche_engine import Checked, asked_of
from jobs.places import models_home

ENCODER = "all-minilm-l6-v2"
THINGS = ("red chairs", "blue cups", "steel bolts", "oak tables", "paper rolls", "glass jars", "wool rugs", "brass hooks")
PLACES = ("shop", "office")
ORDERS = [f"Please send {count} {thing} to our {place}." for count in (3, 12, 40) for thing in THINGS for place in PLACES]
SPECIALIST = Specialist.model_validate(
    {"goal": "orders", "non_goals": ["Decide about a refund of money."], "task_units": [{"name": "order", "kind": "extraction"}]}
)
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def checked() -> Checked:
    section = NicheCheck(false_alarms=0.06, longest=3)
    encoder = SentenceEncoder(locate(ENCODER, root=".", home=models_home()))
    model = fit(ORDERS[::2], ORDERS[1::2], SPECIALIST, section, encoder)
    return Checked(section, ("en",), model, find(ENCODER, root=".", home=models_home()))


def test_requests_are_checked_by_meaning_beside_the_server(checked: Checked) -> None:
    worker = niche_engine.worker(checked, queue=16)
    worker.start()
    until = time.monotonic() + 300
    while not worker.is_ready and time.monotonic() < until:
        assert worker.fault is None
        time.sleep(0.05)

    async def reasons(*texts: str) -> list[str]:
        asked = (worker.ask(asked_of(text), deadline=time.monotonic() + 60) for text in texts)
        return [computed.completion.text for computed in await asyncio.gather(*asked)]

    try:
        inside, refund, weather, german = asyncio.run(
            reasons(
                "Please send 7 oak tables to our office.",
                "I want the money back, decide about my refund.",
                "What will the weather be like in Lisbon tomorrow?",
                "Guten Tag, bitte schicken Sie uns drei blaue Tassen.",
            )
        )
        assert inside == "" and refund.startswith("non_goal") and weather.startswith("distance")
        assert german.startswith("language: de")
    finally:
        worker.stop(30)


def test_another_encoder_than_that_of_the_niche_is_refused(checked: Checked, tmp_path: Path) -> None:
    turned = checked.model._replace(probe=np.roll(checked.model.probe, 1))
    with pytest.raises(ModelError, match="gives other vectors than the encoder that the niche was measured with"):
        niche_engine.load(Checked(checked.section, checked.languages, turned, checked.encoder))

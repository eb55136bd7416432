"""Every family of causal language models that transformers has: pruned and loaded alike, or refused.

`make families` names those that are refused, and those of which no small random model is built here.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from engine.errors import ModelError
from engine.students.export import huggingface
from engine.students.init import layers
from tests.families import tiny

IDS = torch.arange(3, 19)[None]
MOST_PARAMETERS = 3_000_000
EXCEPT_FOR = {"reformer", "xlnet"}  # their attention takes other arguments


def small(family: str) -> Any:
    """Return a random model of `family`; skips the test if none of this size can be built."""
    try:
        config = tiny(family)
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
        if parameters > MOST_PARAMETERS:
            pytest.skip(f"too large: {parameters} parameters with the sizes of tests/families.py")
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config).float()
        huggingface.logits(model, IDS)
    except Exception as error:  # whatever a family needs that is not in tests/families.py
        pytest.skip(f"not built: {type(error).__name__}: {str(error).splitlines()[0]}")
    return model


@pytest.mark.families
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kept", [(0, 1, 3), (0, 1)], ids=str)
@pytest.mark.parametrize("family", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - EXCEPT_FOR))
def test_family_is_pruned_and_loaded_alike_or_refused(family: str, kept: tuple[int, ...], tmp_path: Path) -> None:
    model = small(family)
    try:
        layers.keep(model, kept)
    except ModelError as error:
        pytest.skip(f"refused: {error}"[:300])
    model.save_pretrained(tmp_path)
    huggingface.compare(tmp_path, huggingface.logits(model, IDS), IDS)

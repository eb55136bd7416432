"""Tiny random configurations of the causal language models that transformers has."""

from typing import Any

LAYERS = 4
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 32,
    "ffn_dim": 32,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "mamba_n_heads": 8,
    "mamba_d_state": 8,
    "rotary_dim": 8,
    "max_position_embeddings": 64,
    "vocab_size_per_layer_input": 64,
    "hidden_size_per_layer_input": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny(family: str) -> Any:
    """Return a configuration of `family` (a `model_type` of transformers) with LAYERS small decoder layers."""
    from transformers import AutoConfig

    whole = AutoConfig.for_model(family)
    default = whole.get_text_config(decoder=True)
    aliases = default.attribute_map
    known = {name: value for name, value in SIZES.items() if vars(default).get(aliases.get(name, name)) is not None}
    return type(default)(num_hidden_layers=LAYERS, **known)

"""Whatever answers prompts. `build_model` chooses by `type`; heavy imports happen when a model is built, in the actor."""

from engine.inference.engine import Chat, Completion, Engine, build_model

__all__ = ["Chat", "Completion", "Engine", "build_model"]

"""Whatever answers prompts. `build_model` chooses by `type`; heavy imports happen when a model is built, in the actor."""

from engine.models.base import Chat, Completion, Engine, build_model

__all__ = ["Chat", "Completion", "Engine", "build_model"]

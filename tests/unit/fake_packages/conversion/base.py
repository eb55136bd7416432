"""How the converter finds the architecture in a configuration."""

from types import SimpleNamespace

ModelType = SimpleNamespace(TEXT=1)


def get_model_architecture(config, model_type):
    return config["architectures"][0]

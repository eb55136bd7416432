"""What the engine calls of the converter: the architectures that it has rules for, of which there is one."""


def get_model_class(name):
    if name != "LlamaForCausalLM":
        raise NotImplementedError(f"Architecture {name!r} not supported!")

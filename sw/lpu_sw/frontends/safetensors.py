"""Reader of Hugging Face Llamas and Mixtrals: ``config.json`` and the weights beside it, in one file or in shards.

Tensors may be float32, float16 or bfloat16; what is read is float32, which holds all of them exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors

from lpu_sw.model import LlamaConfig, LlamaModel, ModelError, split_heads

__all__ = ["read_folder", "read_safetensors"]

T = TypeVar("T")

LLAMA, MIXTRAL = "LlamaForCausalLM", "MixtralForCausalLM"
MODEL_TYPES = {"llama": LLAMA, "mixtral": MIXTRAL}
INDEX = "model.safetensors.index.json"

TENSOR_NAMES = {
    "embedding": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "classifier": "lm_head.weight",
    "attention_norm": "input_layernorm.weight",
    "wq": "self_attn.q_proj.weight",
    "wk": "self_attn.k_proj.weight",
    "wv": "self_attn.v_proj.weight",
    "wo": "self_attn.o_proj.weight",
    "feed_forward_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
EXPERTS = "block_sparse_moe.experts"
MIXTRAL_TENSOR_NAMES = TENSOR_NAMES | {
    "router": "block_sparse_moe.gate.weight",
    "gate": f"{EXPERTS}.w1.weight",
    "up": f"{EXPERTS}.w3.weight",
    "down": f"{EXPERTS}.w2.weight",
}
"""A file has an expert's number behind ``experts``; `_stack_experts` makes one tensor of all of them."""
LAYER_TENSOR = re.compile(r"model\.layers\.(\d+)\.(.+)")
# Older exports store the rotary frequencies, which follow from the config.
DERIVED_TENSOR = re.compile(r".*rotary_emb\.inv_freq")

# What a config.json that leaves an option out means by it.
DEFAULTS: dict[str, dict[str, Any]] = {
    LLAMA: {"max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6},
    MIXTRAL: {
        "max_position_embeddings": 131072,
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-5,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
}

# Options that change the arithmetic: the only values that the tile's Llama has.
FIXED_OPTIONS: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_scaling": (None,),
    "quantization_config": (None,),
    "sliding_window": (None,),
    "partial_rotary_factor": (None, 1.0),
}


def _widen_bfloat16(data: bytes) -> np.ndarray:
    """The upper halves of float32 numbers."""
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


TO_FLOAT32: dict[str, Callable[[bytes], np.ndarray]] = {
    "F32": lambda data: np.frombuffer(data, "<f4"),
    "F16": lambda data: np.frombuffer(data, "<f2").astype(np.float32),
    "BF16": _widen_bfloat16,
}
"""By the file's name of a tensor's type: its bytes to float32."""


def read_folder(folder: Path) -> LlamaModel:
    """Read ``model.safetensors`` of a folder, or the shards that ``model.safetensors.index.json`` names.

    Raises ModelError as `read_safetensors`, and for an index or a shard that does not fit the other.
    """
    single, index = folder / "model.safetensors", folder / INDEX
    if single.is_file() or not index.is_file():
        return read_safetensors(single)
    return _read_model(_read_config(folder), _read_shards(index), INDEX)


def read_safetensors(weights: Path) -> LlamaModel:
    """Read a ``.safetensors`` file and the ``config.json`` beside it.

    Raises ModelError for another architecture, option or dtype than we have, and for missing, unknown, misshapen or
    corrupt contents.
    """
    config = _read_config(weights.parent)
    if not weights.is_file():
        raise ModelError(f"no {weights.name} in {weights.parent}, expected it beside config.json")
    return _read_model(config, _read_tensors(weights), weights.name)


def _read_model(config: LlamaConfig, tensors: dict[str, np.ndarray], file: str) -> LlamaModel:
    """The model of tensors by Hugging Face's names, from ``file``."""
    n_layers = 1 + max((int(match[1]) for name in tensors if (match := LAYER_TENSOR.fullmatch(name))), default=-1)
    if n_layers != config.n_layers:
        raise ModelError(f"{file} holds {n_layers} layers, config.json says {config.n_layers}")
    names = MIXTRAL_TENSOR_NAMES if config.n_experts else TENSOR_NAMES
    if config.n_experts:
        tensors = _stack_experts(config, tensors)
    unknown = sorted(name for name in tensors if not _is_known(name, names))
    if unknown:
        raise ModelError(f"unknown tensors in {file}: {', '.join(unknown)}")
    model = LlamaModel.from_tensors(config, tensors, lambda name: _spell(name, names))
    classifier = tensors.get(names["classifier"], model.classifier)
    if not np.array_equal(classifier, model.classifier):
        raise ModelError("config.json ties the classifier to the embedding, but lm_head.weight differs from it")
    return model


def _stack_experts(config: LlamaConfig, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors with the experts of each layer and kind as one, expert first.

    Raises ModelError for missing experts (all of them) and for those of unlike shape.
    """
    names = {
        name: [name.replace(EXPERTS, f"{EXPERTS}.{number}") for number in range(config.n_experts)]
        for layer in range(config.n_layers)
        for name in (_spell(f"layers.{layer}.{kind}", MIXTRAL_TENSOR_NAMES) for kind in ("gate", "up", "down"))
    }
    missing = [name for experts in names.values() for name in experts if name not in tensors]
    if missing:
        raise ModelError(f"missing tensors: {', '.join(missing)}")
    stacked = dict(tensors)
    for name, experts in names.items():
        first, *others = (stacked.pop(expert) for expert in experts)
        for expert, tensor in zip(experts[1:], others, strict=True):
            if tensor.shape != first.shape:
                raise ModelError(f"tensor {expert} has shape {tensor.shape}, expert 0's has {first.shape}")
        stacked[name] = np.stack([first, *others])
    return stacked


def _spell(name: str, names: dict[str, str]) -> str:
    """Hugging Face's name of one of our tensors, ``layers.0.wq`` for instance."""
    *place, kind = name.split(".")
    return ".".join(["model", *place, names[kind]] if place else [names[kind]])


def _is_known(name: str, names: dict[str, str]) -> bool:
    match = LAYER_TENSOR.fullmatch(name)
    return (match[2] if match else name) in names.values() or DERIVED_TENSOR.fullmatch(name) is not None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(contents, dict):
        raise ModelError(f"{path.name} holds a {type(contents).__name__}, expected an object")
    return contents


def _read_config(folder: Path) -> LlamaConfig:
    if not (folder / "config.json").is_file():
        raise ModelError(f"no config.json in {folder}, expected it beside the weights")
    options = _read_json(folder / "config.json")
    model_type = options.get("model_type")
    (architecture, *_) = _of_kind(options, "architectures", list) or [MODEL_TYPES.get(str(model_type), model_type)]
    if architecture not in DEFAULTS:
        raise ModelError(f"the architecture is {architecture}, supported: {', '.join(DEFAULTS)}")
    if model_type is not None and MODEL_TYPES.get(str(model_type)) != architecture:
        raise ModelError(f"the architecture is {architecture}, but the model_type {model_type}")
    options = DEFAULTS[architecture] | options
    rope = _of_kind(options, "rope_parameters", dict) or {}
    if rope.get("rope_type", "default") != "default":
        raise ModelError(f"rope_type is {rope['rope_type']!r}, supported: 'default'")
    for name, allowed in FIXED_OPTIONS.items():
        value = options.get(name, allowed[0])
        if value not in allowed:
            raise ModelError(f"{name} is {value!r}, supported: {allowed[-1]!r}")
    dim, n_heads = _integer(options, "hidden_size"), _integer(options, "num_attention_heads")
    generation = folder / "generation_config.json"
    special = options | (_read_json(generation) if generation.is_file() else {})
    bos_ids = _token_ids(special, "bos_token_id", 1)
    return LlamaConfig(
        dim=dim,
        hidden_dim=_integer(options, "intermediate_size"),
        n_layers=_integer(options, "num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=_integer(options, "num_key_value_heads", n_heads),
        head_dim=_integer(options, "head_dim") if options.get("head_dim") is not None else split_heads(dim, n_heads),
        vocab_size=_integer(options, "vocab_size"),
        max_positions=_integer(options, "max_position_embeddings"),
        rope_theta=_number(rope if "rope_theta" in rope else options, "rope_theta"),
        norm_epsilon=_number(options, "rms_norm_eps"),
        rope_pairs="half",
        tied=_of_kind(options, "tie_word_embeddings", bool) or False,
        bos_id=bos_ids[0] if bos_ids else None,
        stop_ids=_token_ids(special, "eos_token_id", 2),
        **_experts(options if architecture == MIXTRAL else {}),
    )


def _experts(options: dict[str, Any]) -> dict[str, int]:
    """The mixture's sizes; none without options."""
    if not options:
        return {}
    n_experts = _integer(options, "num_local_experts")
    if n_experts < 1:
        raise ModelError(f"config.json has num_local_experts = {n_experts}, expected at least 1")
    return {"n_experts": n_experts, "experts_per_token": _integer(options, "num_experts_per_tok")}


def _of_kind(options: dict[str, Any], name: str, kind: type[T]) -> T | None:
    """An option of config.json that is of one kind, or left out."""
    value = options.get(name)
    if value is not None and not isinstance(value, kind):
        raise ModelError(f"config.json has {name} = {value!r}, expected a {kind.__name__}")
    return value


def _number(options: dict[str, Any], name: str, default: float | None = None) -> float:
    """A number of config.json; without a default (Hugging Face's) it must be there."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"config.json has {name} = {value!r}, expected a number")
    return value


def _integer(options: dict[str, Any], name: str, default: int | None = None) -> int:
    value = _number(options, name, default)
    if not isinstance(value, int):
        raise ModelError(f"config.json has {name} = {value!r}, expected a whole number")
    return value


def _token_ids(options: dict[str, Any], name: str, default: int) -> tuple[int, ...]:
    """Ids of a special token: one, a list, or null for none."""
    value = options.get(name, default)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int for token in ids):
        raise ModelError(f"{name} is {value!r}, expected token ids")
    return tuple(ids)


def _read_tensors(weights: Path) -> dict[str, np.ndarray]:
    """The tensors of one file, as float32."""
    try:
        stored = safetensors.deserialize(weights.read_bytes())
    except safetensors.SafetensorError as error:
        raise ModelError(f"{weights.name} is corrupt or truncated: {error}") from error
    tensors = {}
    for name, tensor in stored:
        if tensor["dtype"] not in TO_FLOAT32:
            raise ModelError(f"tensor {name} is {tensor['dtype']}, supported: {', '.join(TO_FLOAT32)}")
        tensors[name] = TO_FLOAT32[tensor["dtype"]](tensor["data"]).reshape(tensor["shape"])
    return tensors


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """The tensors of all shards, each from the one that the index names."""
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise ModelError(f"{index.name} has no weight_map, expected the file of each tensor")
    files = sorted(set(places.values()))
    for file in files:
        if Path(file).name != file:
            raise ModelError(f"{index.name} names the shard {file!r}, expected a file beside it")
    missing = [file for file in files if not index.with_name(file).is_file()]
    if missing:
        raise ModelError(f"missing shards: {', '.join(missing)}")
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        found = _read_tensors(index.with_name(file))
        named = {name for name, place in places.items() if place == file}
        if absent := sorted(named - found.keys()):
            raise ModelError(f"{file} does not hold {', '.join(absent)}, which {index.name} places there")
        if stray := sorted(found.keys() - named):
            raise ModelError(f"{file} holds {', '.join(stray)}, which {index.name} does not place there")
        tensors |= found
    return tensors

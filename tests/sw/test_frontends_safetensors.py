"""Hugging Face folders: Llamas are read exactly, everything else is refused with what was found and expected."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lpu_sw.frontends import load_model
from lpu_sw.model import LlamaConfig, LlamaModel, ModelError

CONFIG = LlamaConfig(
    dim=24, hidden_dim=52, n_layers=2, n_heads=6, n_kv_heads=3, head_dim=10, vocab_size=77, max_positions=19,
    rope_theta=500.0, norm_epsilon=1e-4, rope_pairs="half", tied=False, bos_id=5, stop_ids=(6, 7),
)  # fmt: skip
LAYER_NAMES = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "wq",
    "self_attn.k_proj": "wk",
    "self_attn.v_proj": "wv",
    "self_attn.o_proj": "wo",
    "post_attention_layernorm": "feed_forward_norm",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}


def config_json(config: LlamaConfig) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.dim,
        "intermediate_size": config.hidden_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.stop_ids),
    }


def hugging_face_tensors(model: LlamaModel) -> dict[str, np.ndarray]:
    tensors = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.final_norm}
    for index, layer in enumerate(model.layers):
        for theirs, ours in LAYER_NAMES.items():
            tensors[f"model.layers.{index}.{theirs}.weight"] = getattr(layer, ours)
    return tensors if model.config.tied else tensors | {"lm_head.weight": model.classifier}


def write_folder(folder: Path, model: LlamaModel) -> None:
    (folder / "config.json").write_text(json.dumps(config_json(model.config)))
    save_file(hugging_face_tensors(model), folder / "model.safetensors")


@pytest.fixture
def model(random_model) -> LlamaModel:
    return random_model(CONFIG)


@pytest.fixture
def folder(tmp_path, model) -> Path:
    write_folder(tmp_path, model)
    return tmp_path


@pytest.fixture
def edit_config(folder) -> Callable[..., None]:
    def edit(**changes: Any) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.fixture
def edit_tensors(folder) -> Callable[..., None]:
    def edit(changes: dict[str, np.ndarray | None]) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path) | changes
        save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)

    return edit


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("given", ["folder", "file"])
def test_reads_a_llama(tmp_path, random_model, tied, given):
    model = random_model(dataclasses.replace(CONFIG, tied=tied))
    write_folder(tmp_path, model)
    found = load_model(tmp_path if given == "folder" else tmp_path / "model.safetensors")
    assert found.config == model.config
    assert (found.classifier is found.embedding) == tied
    for name, tensor in hugging_face_tensors(model).items():
        np.testing.assert_array_equal(hugging_face_tensors(found)[name], tensor, err_msg=name)


def test_reads_the_shipped_model(story_llama):
    model = load_model(story_llama)
    assert model.config == LlamaConfig(
        dim=64, hidden_dim=176, n_layers=5, n_heads=4, n_kv_heads=2, head_dim=16, vocab_size=512, max_positions=256,
        rope_theta=10000.0, norm_epsilon=1e-5, rope_pairs="half", tied=True, bos_id=1, stop_ids=(2,),
    )  # fmt: skip


def test_reads_through_symbolic_links(tmp_path, story_llama):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(story_llama / name)
    np.testing.assert_array_equal(load_model(tmp_path).embedding, load_model(story_llama).embedding)


def test_takes_the_defaults_of_hugging_face(tmp_path, random_model):
    config = dataclasses.replace(
        CONFIG, n_kv_heads=6, head_dim=4, max_positions=2048, rope_theta=10000.0, norm_epsilon=1e-6, bos_id=1,
        stop_ids=(2,),
    )  # fmt: skip
    write_folder(tmp_path, random_model(config))
    path = tmp_path / "config.json"
    options = json.loads(path.read_text())
    for name in (
        "num_key_value_heads", "head_dim", "max_position_embeddings", "rope_theta", "rms_norm_eps",
        "tie_word_embeddings", "bos_token_id", "eos_token_id", "architectures",
    ):  # fmt: skip
        del options[name]
    path.write_text(json.dumps(options))
    assert load_model(tmp_path).config == config


def test_reads_the_rotary_base_of_newer_configs(folder, edit_config):
    edit_config(rope_theta=None, rope_parameters={"rope_type": "default", "rope_theta": 123.0})
    assert load_model(folder).config.rope_theta == 123.0


def test_generation_config_has_the_last_word_on_special_tokens(folder):
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 8, "eos_token_id": 9}))
    config = load_model(folder).config
    assert (config.bos_id, config.stop_ids) == (8, (9,))


def test_ignores_stored_rotary_frequencies(folder, edit_tensors):
    edit_tensors({"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(5, np.float32)})
    load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["Qwen3ForCausalLM"]},
            "the architecture is Qwen3ForCausalLM, supported: LlamaForCausalLM, MixtralForCausalLM",
        ),
        (
            {"architectures": None, "model_type": "qwen3"},
            "the architecture is qwen3, supported: LlamaForCausalLM",
        ),
        ({"architectures": "LlamaForCausalLM"}, "config.json has architectures = 'LlamaForCausalLM', expected a list"),
        ({"model_type": "granite"}, "the architecture is LlamaForCausalLM, but the model_type granite"),
        ({"rope_parameters": [1]}, "config.json has rope_parameters = [1], expected a dict"),
        ({"tie_word_embeddings": "no"}, "config.json has tie_word_embeddings = 'no', expected a bool"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', supported: 'silu'"),
        ({"attention_bias": True}, "attention_bias is True, supported: False"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling is {'type': 'linear'}, supported: None"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type is 'llama3', supported: 'default'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}, supported: None"),
        ({"hidden_size": None}, "config.json has hidden_size = None, expected a number"),
        ({"hidden_size": "24"}, "config.json has hidden_size = '24', expected a number"),
        ({"hidden_size": 24.5}, "config.json has hidden_size = 24.5, expected a whole number"),
        ({"num_hidden_layers": True}, "config.json has num_hidden_layers = True, expected a number"),
        ({"num_key_value_heads": 4}, "6 heads cannot share 4 key/value heads evenly"),
        ({"head_dim": 7}, "the head size must be even for the rotary embedding, not 7"),
        ({"head_dim": None, "num_attention_heads": 7}, "dim 24 cannot be split into 7 heads"),
        ({"rms_norm_eps": 0}, "norm_epsilon must be positive and finite, not 0"),
        ({"vocab_size": -1}, "vocab_size must be at least 1, not -1"),
        ({"eos_token_id": 77}, "special token 77 is outside the vocabulary of 77"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>', expected token ids"),
        ({"num_hidden_layers": 10**9}, "model.safetensors holds 2 layers, config.json says 1000000000"),
        ({"intermediate_size": 53}, "tensor model.layers.0.mlp.gate_proj.weight has shape (52, 24), expected (53, 24)"),
    ],
)  # fmt: skip
def test_refuses_other_models_and_impossible_sizes(folder, edit_config, changes, message):
    edit_config(**changes)
    assert message in refusal(folder)


def test_names_all_missing_tensors(folder, edit_tensors):
    edit_tensors({"model.layers.1.self_attn.k_proj.weight": None, "lm_head.weight": None})
    assert "missing tensors: lm_head.weight, model.layers.1.self_attn.k_proj.weight" in refusal(folder)


def test_names_unknown_tensors(folder, edit_tensors):
    edit_tensors({"model.layers.0.self_attn.q_proj.bias": np.ones(60, np.float32)})
    assert "unknown tensors in model.safetensors: model.layers.0.self_attn.q_proj.bias" in refusal(folder)


def test_refuses_a_tied_model_with_a_classifier_of_its_own(folder, edit_config):
    edit_config(tie_word_embeddings=True)
    assert "lm_head.weight differs from it" in refusal(folder)


@pytest.mark.parametrize(("dtype", "name"), [(np.float64, "F64"), (np.int8, "I8")])
def test_names_a_dtype_that_is_not_supported(folder, edit_tensors, dtype, name):
    edit_tensors({"model.norm.weight": np.ones(24, dtype)})
    assert f"tensor model.norm.weight is {name}, supported: F32, F16, BF16" in refusal(folder)


def test_names_the_place_of_what_is_not_a_number(folder, edit_tensors, model):
    norm, gate = model.final_norm.copy(), model.layers[1].gate.copy()
    norm[3] = np.inf
    edit_tensors({"model.norm.weight": norm})
    assert "tensor model.norm.weight holds inf at index 3" in refusal(folder)
    gate[51, 23] = np.nan
    edit_tensors({"model.norm.weight": model.final_norm, "model.layers.1.mlp.gate_proj.weight": gate})
    assert "tensor model.layers.1.mlp.gate_proj.weight holds nan at row 51, column 23" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda contents: b"",
        lambda contents: contents[:7],
        lambda contents: contents[:500],
        lambda contents: contents[:-1],
        lambda contents: contents + b"\0",
        lambda contents: b"\xff" * 8 + contents[8:],
        lambda contents: contents[:8] + b"x" + contents[9:],
    ],
    ids=["empty", "length", "header", "data", "tail", "huge header", "no JSON"],
)
def test_refuses_corrupt_weights(folder, change):
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    assert "model.safetensors is corrupt or truncated" in refusal(folder)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"{", "config.json is not valid JSON"),
        (b"\xff", "config.json is not valid JSON"),
        (b"[" * 100_000, "config.json is not valid JSON"),
        (b"[]", "config.json holds a list, expected an object"),
    ],
)
def test_refuses_a_broken_config(folder, contents, message):
    (folder / "config.json").write_bytes(contents)
    assert message in refusal(folder)


def test_says_which_file_is_missing(folder, tmp_path_factory):
    assert "no config.json" in refusal(tmp_path_factory.mktemp("empty"))
    weights = folder / "model.safetensors"
    shutil.move(weights, folder / "model-00001-of-00002.safetensors")
    assert "no model.safetensors" in refusal(folder)


# 16-bit numbers.


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Bits of the nearest bfloat16, ties to even: the upper half of a float32."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def save_bfloat16(tensors: dict[str, np.ndarray], path: Path) -> None:
    """A file of the library whose 16-bit integers are declared to be bfloat16, a type that NumPy has not."""
    save_file({name: to_bfloat16(tensor) for name, tensor in tensors.items()}, path)
    contents = path.read_bytes()
    length = int.from_bytes(contents[:8], "little")
    header = contents[8 : 8 + length].replace(b'"U16"', b'"BF16"')
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + contents[8 + length :])


def assert_equal(found: LlamaModel, expected: dict[str, np.ndarray]) -> None:
    tensors = hugging_face_tensors(found)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], tensor, err_msg=name)


def test_reads_float16(folder, model):
    rounded = {name: tensor.astype(np.float16) for name, tensor in hugging_face_tensors(model).items()}
    save_file(rounded, folder / "model.safetensors")
    assert_equal(load_model(folder), {name: tensor.astype(np.float32) for name, tensor in rounded.items()})


def test_reads_bfloat16(folder, model):
    tensors = hugging_face_tensors(model)
    save_bfloat16(tensors, folder / "model.safetensors")
    rounded = {name: (to_bfloat16(t).astype(np.uint32) << 16).view(np.float32) for name, t in tensors.items()}
    assert any((rounded[name] != tensor).any() for name, tensor in tensors.items())
    assert_equal(load_model(folder), rounded)


def test_reads_types_beside_one_another(folder, edit_tensors, model):
    edit_tensors({"model.norm.weight": model.final_norm.astype(np.float16)})
    assert_equal(load_model(folder), hugging_face_tensors(model) | {
        "model.norm.weight": model.final_norm.astype(np.float16).astype(np.float32)
    })  # fmt: skip


def test_a_bfloat16_that_is_not_a_number_is_refused(folder, model):
    tensors = hugging_face_tensors(model)
    tensors["model.norm.weight"] = np.full(24, np.inf, np.float32)
    save_bfloat16(tensors, folder / "model.safetensors")
    assert "tensor model.norm.weight holds inf at index 0" in refusal(folder)


# Shards.

INDEX = "model.safetensors.index.json"


def shard_name(number: int) -> str:
    return f"model-{number:05}-of-00003.safetensors"


@pytest.fixture
def shards(folder, model) -> dict[str, str]:
    """Which shard holds what, of a folder in three of them."""
    tensors = hugging_face_tensors(model)
    places = {name: shard_name(1 + position % 3) for position, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name, place in places.items() if place == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    (folder / "model.safetensors").unlink()
    return places


def test_reads_shards(folder, shards, model):
    assert_equal(load_model(folder), hugging_face_tensors(model))


def test_shards_may_be_symbolic_links(folder, shards, model, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("blobs")
    for number, file in enumerate(set(shards.values())):
        shutil.move(folder / file, elsewhere / str(number))
        (folder / file).symlink_to(elsewhere / str(number))
    assert_equal(load_model(folder), hugging_face_tensors(model))


def test_shards_may_differ_in_type(folder, shards, model):
    tensors = hugging_face_tensors(model)
    held = {name: tensors[name] for name, place in shards.items() if place == shard_name(2)}
    save_bfloat16(held, folder / shard_name(2))
    rounded = {name: (to_bfloat16(t).astype(np.uint32) << 16).view(np.float32) for name, t in held.items()}
    assert_equal(load_model(folder), tensors | rounded)


def test_names_missing_shards(folder, shards):
    (folder / shard_name(2)).unlink()
    assert f"missing shards: {shard_name(2)}" in refusal(folder)
    (folder / shard_name(3)).unlink()
    assert f"missing shards: {shard_name(2)}, {shard_name(3)}" in refusal(folder)


def test_names_a_corrupt_shard(folder, shards):
    shard = folder / shard_name(2)
    shard.write_bytes(shard.read_bytes()[:-1])
    assert f"{shard_name(2)} is corrupt or truncated" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": shard_name(1)}, "{1} does not hold model.norm.weight, which {index} places there"),
        ({"model.norm.weight": None}, "{2} holds model.norm.weight, which {index} does not place there"),
        ({"more": shard_name(3)}, "{3} does not hold more, which {index} places there"),
        ({"model.norm.weight": "../" + shard_name(2)}, "names the shard '../{2}', expected a file beside it"),
        ({"model.norm.weight": 1}, "{index} has no weight_map, expected the file of each tensor"),
    ],
)
def test_refuses_a_stale_index(folder, shards, change, message):
    assert shards["model.norm.weight"] == shard_name(2)
    places = {name: place for name, place in (shards | change).items() if place is not None}
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    assert message.format("", *map(shard_name, (1, 2, 3)), index=INDEX) in refusal(folder)


@pytest.mark.parametrize("contents", ["{}", '{"weight_map": {}}', '{"weight_map": []}'])
def test_refuses_an_index_without_places(folder, shards, contents):
    (folder / INDEX).write_text(contents)
    assert f"{INDEX} has no weight_map, expected the file of each tensor" in refusal(folder)


def test_one_file_comes_before_shards(folder, model):
    (folder / INDEX).write_text("{}")
    assert_equal(load_model(folder), hugging_face_tensors(model))

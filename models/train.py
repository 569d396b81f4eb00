"""Train a tiny Llama on a file of short stories, from scratch, on the CPU.

    pip install ".[train]"
    python models/train.py --data stories.txt --out story --minutes 55

The data file holds one story after another with a blank line between. The script trains a 512-entry byte-level BPE
tokenizer on it (unless there is one in the output folder or in that of ``--init``), trains the model, and writes
``config.json``, ``generation_config.json``, ``tokenizer.json``, ``model.safetensors`` and ``train-log.json`` in
Hugging Face's Llama layout: same tensor names, half-split rotary embedding, output matrix tied to the embedding.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 176,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "torch_dtype": "float32",
}
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]
BOS, EOS = 1, 2
TOKENIZER_STORIES = 50_000
VALIDATION_STORIES = 4_000
LOWEST_RATE = 0.02  # of the peak, where the cosine ends


# Data


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Stories one after another, each as BOS, text, EOS: uint16 ids, and the place of every story's BOS in them."""

    ids: np.ndarray
    starts: np.ndarray

    @classmethod
    def encode(cls, tokenizer: Tokenizer, stories: Sequence[str]) -> Corpus:
        """Encode all stories."""
        encodings = tokenizer.encode_batch(list(stories), add_special_tokens=False)
        parts = [np.array([BOS, *encoding.ids, EOS], np.uint16) for encoding in encodings]
        return cls(np.concatenate(parts), np.cumsum([0, *map(len, parts[:-1])]))

    def rows(self, stories: np.ndarray, length: int) -> torch.Tensor:
        """Rows of length + 1 ids, each opening at a story's BOS and running on into the next stories."""
        places = np.minimum(self.starts[stories], len(self.ids) - length - 1)
        return torch.from_numpy(self.ids[places[:, None] + np.arange(length + 1)].astype(np.int64))


def read_stories(path: Path) -> list[str]:
    """Stories of a file, with a blank line between them."""
    return [story for story in path.read_text(encoding="utf-8").strip().split("\n\n") if story]


def train_tokenizer(stories: Sequence[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE that can always spell printable ASCII, the space and the newline, and puts BOS in front."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    space, newline = "\u0120", "\u010a"  # as the byte-level alphabet writes them
    alphabet = [chr(code) for code in range(33, 127)] + [space, newline]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(stories, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


# Model


class RMSNorm(nn.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, dim: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(dim)), epsilon

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., dim)."""
        return functional.rms_norm(hidden, (hidden.shape[-1],), self.weight, self.epsilon)


def rotary_tables(length: int, head_dim: int, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of the rotary angles, (length, head_dim) each, both halves of a head alike."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angles = torch.outer(torch.arange(length).float(), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding, half-split. heads: (batch, heads, length, head_dim)."""
    first, second = heads.chunk(2, -1)
    return heads * cos + torch.cat([-second, first], -1) * sin


class Attention(nn.Module):
    """Causal grouped-query attention."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        dim, self.head_dim = config["hidden_size"], config["head_dim"]
        self.n_heads, self.n_kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.q_proj = nn.Linear(dim, self.n_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(dim, self.n_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(dim, self.n_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.n_heads * self.head_dim, dim, bias=False)

    def forward(self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """(batch, length, dim) -> (batch, length, dim)."""
        batch, length, _ = hidden.shape

        def heads(projection: nn.Linear, count: int) -> torch.Tensor:
            return projection(hidden).view(batch, length, count, self.head_dim).transpose(1, 2)

        queries = rotate(heads(self.q_proj, self.n_heads), cos, sin)
        keys = rotate(heads(self.k_proj, self.n_kv_heads), cos, sin)
        values = heads(self.v_proj, self.n_kv_heads)
        sharing = self.n_heads // self.n_kv_heads
        keys, values = keys.repeat_interleave(sharing, 1), values.repeat_interleave(sharing, 1)
        attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.o_proj(attended.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        dim, hidden_dim = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., dim) -> (..., dim)."""
        return self.down_proj(functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class Layer(nn.Module):
    """Attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        dim, epsilon = config["hidden_size"], config["rms_norm_eps"]
        self.input_layernorm = RMSNorm(dim, epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(dim, epsilon)
        self.mlp = FeedForward(config)

    def forward(self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """(batch, length, dim) -> (batch, length, dim)."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), cos, sin)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Decoder(nn.Module):
    """The parts that Hugging Face's names put under ``model.``."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])


class CausalLM(nn.Module):
    """The whole Llama, initialised at random."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config, self.model = config, Decoder(config)
        cos, sin = rotary_tables(config["max_position_embeddings"], config["head_dim"], config["rope_theta"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                deviation = 0.05 if "embed" in name else config["hidden_size"] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    deviation *= (2 * config["num_hidden_layers"]) ** -0.5
                nn.init.normal_(parameter, std=deviation)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (batch, length) -> logits (batch, length, vocab)."""
        hidden = self.model.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.model.layers:
            hidden = layer(hidden, cos, sin)
        return functional.linear(self.model.norm(hidden), self.model.embed_tokens.weight)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean next-token loss in nats. rows: ids (batch, length + 1)."""
        logits = self(rows[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def evaluate(model: CausalLM, corpus: Corpus, n_stories: int, batch: int = 32) -> float:
    """Mean loss over the rows that open at the first stories."""
    length = model.config["max_position_embeddings"]
    batches = np.array_split(np.arange(n_stories), math.ceil(n_stories / batch))
    return sum(model.loss(corpus.rows(stories, length)).item() * len(stories) for stories in batches) / n_stories


def save(model: CausalLM, out: Path) -> None:
    """Write weights and configuration in Hugging Face's layout."""
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    generation = {
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "max_length": model.config["max_position_embeddings"],
        "do_sample": False,
    }
    for name, contents in (("config.json", model.config), ("generation_config.json", generation)):
        (out / name).write_text(json.dumps(contents, indent=2) + "\n")


# Training


def average_gradients(parameters: list[nn.Parameter], loss: torch.Tensor, seconds: float) -> tuple[float, float]:
    """Average gradients and loss over the workers; returns that loss, and worker 0's clock so that all agree on it."""
    n_workers = torch.distributed.get_world_size()
    flat = torch.cat([*(parameter.grad.flatten() for parameter in parameters), loss.detach()[None]])
    clock = torch.tensor([seconds if torch.distributed.get_rank() == 0 else 0.0])
    torch.distributed.all_reduce(flat)
    torch.distributed.all_reduce(clock)
    flat /= n_workers
    parts = flat[:-1].split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad.copy_(part.view_as(parameter))
    return flat[-1].item(), clock.item()


def train(worker: int, training: Corpus, validation: Corpus, options: argparse.Namespace, rendezvous: str) -> None:
    """Run one of ``options.workers`` processes. Worker 0 logs and saves."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.workers > 1:
        torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=worker, world_size=options.workers)
    model = CausalLM(CONFIG)
    if options.init:
        model.load_state_dict(load_file(options.init / "model.safetensors"))
    parameters, length = list(model.parameters()), CONFIG["max_position_embeddings"]
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    vectors = [parameter for parameter in parameters if parameter.dim() == 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": options.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=options.rate,
        betas=(0.9, 0.98),
    )
    loss_function = torch.compile(model.loss) if options.compile else model.loss
    random = np.random.default_rng(options.seed)
    rows_a_step = options.batch * options.workers
    order, place, step, seconds, smooth_loss = np.array([], int), 0, 0, 0.0, None
    log: list[dict[str, Any]] = []
    started = time.monotonic()

    def record(n_stories: int | None) -> None:
        """Log, and with a number of validation stories measure and save as well."""
        line: dict[str, Any] = {
            "step": step,
            "tokens": step * rows_a_step * length,
            "rate": optimiser.param_groups[0]["lr"],
            "training": smooth_loss,
            "seconds": round(seconds),
        }
        if n_stories is not None:
            line["validation"] = evaluate(model, validation, n_stories)
            save(model, options.out)
        log.append(line)
        print(json.dumps(line), flush=True)

    # Progress runs from 0 to 1 over the steps, or over the minutes when no number of steps is given.
    while (progress := step / options.steps if options.steps else seconds / (60 * options.minutes)) < 1:
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            warm_up = min(1.0, (step + 1) / options.warmup)
            group["lr"] = options.rate * warm_up * (LOWEST_RATE + (1 - LOWEST_RATE) * cosine)
        if place + rows_a_step > len(order):
            order, place = random.permutation(len(training.starts)), 0
        first = place + worker * options.batch
        place += rows_a_step
        loss = loss_function(training.rows(order[first : first + options.batch], length))
        optimiser.zero_grad()
        loss.backward()
        step_loss, seconds = loss.item(), time.monotonic() - started
        if options.workers > 1:
            step_loss, seconds = average_gradients(parameters, loss, seconds)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        smooth_loss = step_loss if smooth_loss is None else 0.98 * smooth_loss + 0.02 * step_loss
        if worker == 0 and step % options.log_every == 0:
            record(min(256, len(validation.starts)) if step % (10 * options.log_every) == 0 else None)
    if worker == 0:
        record(len(validation.starts))
        (options.out / "train-log.json").write_text(json.dumps(log, indent=1) + "\n")
    if options.workers > 1:
        torch.distributed.destroy_process_group()


def parse_options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a tiny Llama on a file of short stories.")
    parser.add_argument("--data", type=Path, required=True, help="stories with a blank line between")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder to write")
    parser.add_argument("--init", type=Path, help="folder of an earlier run: go on from its weights and tokenizer")
    parser.add_argument("--steps", type=int, default=0, help="number of steps (else --minutes rules)")
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--batch", type=int, default=16, help="rows of 256 tokens that a worker takes at each step")
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--warmup", type=int, default=200, help="steps over which the rate rises")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes, which average their gradients at every step")
    parser.add_argument("--threads", type=int, default=1, help="threads in each process")
    parser.add_argument("--log-every", type=int, default=50, help="steps")
    parser.add_argument("--compile", action="store_true", help="use torch.compile (needs a C++ compiler)")
    return parser.parse_args()


def main() -> None:
    """Prepare data and tokenizer, then train."""
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    stories = read_stories(options.data)
    n_validation = min(VALIDATION_STORIES, max(1, len(stories) // 100))
    folders = [folder for folder in (options.out, options.init) if folder and (folder / "tokenizer.json").is_file()]
    if folders:
        tokenizer = Tokenizer.from_file(str(folders[0] / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(stories[n_validation:][:TOKENIZER_STORIES], CONFIG["vocab_size"])
    tokenizer.save(str(options.out / "tokenizer.json"))
    training = Corpus.encode(tokenizer, stories[n_validation:])
    validation = Corpus.encode(tokenizer, stories[:n_validation])
    n_parameters = sum(parameter.numel() for parameter in CausalLM(CONFIG).parameters())
    print(
        f"{n_parameters} parameters, {len(training.starts)} stories and {len(training.ids)} tokens to train on, "
        f"{n_validation} stories to validate on",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = (training, validation, options, f"file://{folder}/rendezvous")
        if options.workers > 1:
            torch.multiprocessing.spawn(train, arguments, nprocs=options.workers)
        else:
            train(0, *arguments)


if __name__ == "__main__":
    main()

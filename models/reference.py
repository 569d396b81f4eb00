"""Write ``reference.json`` for a model folder: what float32 PyTorch makes of it.

    python models/reference.py models/story-llama

Three greedy continuations (ids, text, and at every step the lead of the best logit over the second), the logits after
the first prompt, and the mean next-token loss in nats on ``heldout.txt``: each story on its own as BOS, text, EOS, cut
to one id more than the context.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from train import EOS, CausalLM, read_stories

PROMPTS = ["Once upon a time", "One day, a little girl named Lucy", "Once upon a time, there was a big bear"]
N_GREEDY = 100


def greedy(model: CausalLM, tokenizer: Tokenizer, prompt: str) -> dict[str, Any]:
    """Continue a prompt with the likeliest token each time."""
    prompt_ids = tokenizer.encode(prompt).ids
    ids, leads = list(prompt_ids), []
    while len(leads) < N_GREEDY and ids[-1] != EOS:
        best, token = model(torch.tensor([ids]))[0, -1].topk(2)
        leads.append(round(float(best[0] - best[1]), 4))
        ids.append(int(token[0]))
    return {
        "prompt": prompt,
        "prompt_ids": prompt_ids,
        "greedy_ids": ids[len(prompt_ids) :],
        "leads": leads,
        "text": tokenizer.decode(ids),
    }


def heldout_loss(model: CausalLM, tokenizer: Tokenizer, path: Path) -> dict[str, Any]:
    """Mean loss over all tokens of all stories."""
    total, n_predicted, stories = 0.0, 0, read_stories(path)
    for story in stories:
        ids = [*tokenizer.encode(story).ids, EOS][: model.config["max_position_embeddings"] + 1]
        total += float(model.loss(torch.tensor([ids]))) * (len(ids) - 1)
        n_predicted += len(ids) - 1
    mean = round(total / n_predicted, 5)
    return {"file": path.name, "stories": len(stories), "predicted_tokens": n_predicted, "mean_loss": mean}


@torch.no_grad()
def main() -> None:
    """Compute and write."""
    parser = argparse.ArgumentParser(description="Write reference.json for a model folder.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    model = CausalLM(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    continuations = [greedy(model, tokenizer, prompt) for prompt in PROMPTS]
    logits = model(torch.tensor([continuations[0]["prompt_ids"]]))[0, -1]
    reference = {
        "note": "float32; greedy: argmax at every step, at most 100 ids, EOS (2) ends it; "
        "leads: best logit minus second",
        "greedy": continuations,
        "heldout": heldout_loss(model, tokenizer, folder / "heldout.txt"),
        "logits_after_first_prompt": [round(float(logit), 5) for logit in logits],
    }
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")
    print(json.dumps(reference["heldout"]))


if __name__ == "__main__":
    main()

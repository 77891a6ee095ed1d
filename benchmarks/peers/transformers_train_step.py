"""The peer of train_step: transformers' T5 in torch on the CPU, all cores."""

import argparse
import os

import torch
import transformers

from benchmarks.paired import serve
from benchmarks.workload import Workload


def build_model(workload: Workload) -> transformers.T5ForConditionalGeneration:
    """Returns T5 v1.1 of the workload's size, randomly initialised, in training mode."""
    config = transformers.T5Config(
        vocab_size=workload.vocab_size,
        d_model=workload.embed_dim,
        d_kv=workload.head_dim,
        d_ff=workload.mlp_dim,
        num_layers=workload.num_layers,
        num_decoder_layers=workload.num_layers,
        num_heads=workload.num_heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=workload.dropout_rate,
        decoder_start_token_id=0,
        use_cache=False,
    )
    model = transformers.T5ForConditionalGeneration(config)
    # transformers 5 ties the embeddings of T5 whatever the config says
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model.train()


def main() -> None:
    """Serves turns of training steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dropout_rate", type=float, default=0.0)
    workload = Workload(dropout_rate=parser.parse_args().dropout_rate)

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    model = build_model(workload)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=workload.learning_rate, weight_decay=workload.weight_decay
    )
    inputs, targets = (torch.tensor(tokens, dtype=torch.long) for tokens in workload.batch())

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            model(input_ids=inputs, labels=targets).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), workload.max_gradient_norm)
            optimizer.step()

    serve(
        steps,
        facts={
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens_per_step": workload.tokens,
        },
    )


if __name__ == "__main__":
    main()

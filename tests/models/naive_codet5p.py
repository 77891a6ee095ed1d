"""CodeT5+ of two CodeGens, naively, in torch, as the paper and the released files describe it.

One sequence at a time, head by head, in float64, on tensors with the released names and layouts.
Rotary positions are products of complex numbers; nothing is shared with the package.
"""

import math

import torch

GROUPS = 4


def random_weights(*, vocab, encoder, decoder, crossing=1, seed=0):
    """Tensors by the released names; encoder and decoder are (layers, width, mlp width)."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}

    def make(name, *shape):
        values = torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.2
        weights[name] = values.requires_grad_()

    def stack(prefix, layers, width, mlp):
        make(f"{prefix}.wte.weight", vocab, width)
        for layer in range(layers):
            block = f"{prefix}.h.{layer}"
            make(f"{block}.attn.qkv_proj.weight", 3 * width, width)
            make(f"{block}.attn.out_proj.weight", width, width)
            make(f"{block}.mlp.fc_in.weight", mlp, width)
            make(f"{block}.mlp.fc_in.bias", mlp)
            make(f"{block}.mlp.fc_out.weight", width, mlp)
            make(f"{block}.mlp.fc_out.bias", width)
            make(f"{block}.ln_1.weight", width)
            make(f"{block}.ln_1.bias", width)
            if prefix != "encoder" and layer >= layers - crossing:
                make(f"{block}.crossattention.q_attn.weight", width, width)
                make(f"{block}.crossattention.qkv_proj.weight", 2 * width, width)
                make(f"{block}.crossattention.out_proj.weight", width, width)
        make(f"{prefix}.ln_f.weight", width)
        make(f"{prefix}.ln_f.bias", width)

    stack("encoder", *encoder)
    stack("decoder.transformer", *decoder)
    if encoder[1] != decoder[1]:
        make("enc_to_dec_proj.weight", decoder[1], encoder[1])
        make("enc_to_dec_proj.bias", decoder[1])
    make("decoder.lm_head.weight", vocab, decoder[1])
    make("decoder.lm_head.bias", vocab)
    return weights


def logits(weights, source, target, *, heads, rotary):
    """Scores [target, vocab] of one pair; heads and rotary are (encoder's, decoder's)."""
    encoded = _stack(weights, "encoder", source, None, heads[0], rotary[0])
    if "enc_to_dec_proj.weight" in weights:
        encoded = _linear(weights, "enc_to_dec_proj", encoded)
    hidden = _stack(weights, "decoder.transformer", target, encoded, heads[1], rotary[1])
    return _linear(weights, "decoder.lm_head", hidden)


def _stack(weights, prefix, tokens, encoded, heads, rotary):
    x = weights[f"{prefix}.wte.weight"][tokens]
    layer = 0
    while f"{prefix}.h.{layer}.ln_1.weight" in weights:
        block = f"{prefix}.h.{layer}"
        h = _layer_norm(weights, f"{block}.ln_1", x)
        query, value, key = _groups(h @ weights[f"{block}.attn.qkv_proj.weight"].T, 3, heads)
        gathered = _attend(query, key, value, rotary, causal=encoded is not None)
        out = gathered @ weights[f"{block}.attn.out_proj.weight"].T
        inner = _gelu_new(_linear(weights, f"{block}.mlp.fc_in", h))
        out = out + _linear(weights, f"{block}.mlp.fc_out", inner)
        cross = f"{block}.crossattention"
        if f"{cross}.q_attn.weight" in weights:
            (query,) = _groups(h @ weights[f"{cross}.q_attn.weight"].T, 1, heads)
            value, key = _groups(encoded @ weights[f"{cross}.qkv_proj.weight"].T, 2, heads)
            gathered = _attend(query, key, value, rotary, causal=False)
            out = out + gathered @ weights[f"{cross}.out_proj.weight"].T
        x = x + out
        layer += 1
    return _layer_norm(weights, f"{prefix}.ln_f", x)


def _groups(projected, parts, heads):
    """[n, parts * width] -> parts, of heads: the columns are groups of parts of heads."""
    width = projected.shape[1] // parts
    head_dim, per_group = width // heads, heads // GROUPS
    found = [[] for _ in range(parts)]
    column = 0
    for _ in range(GROUPS):
        for part in range(parts):
            for _ in range(per_group):
                found[part].append(projected[:, column : column + head_dim])
                column += head_dim
    return found


def _attend(query, key, value, rotary, *, causal):
    gathered = []
    for q, k, v in zip(query, key, value, strict=True):
        scores = _turned(q, rotary) @ _turned(k, rotary).T / math.sqrt(q.shape[1])
        if causal:
            future = torch.ones(len(q), len(k)).triu(1) == 1
            scores = scores.masked_fill(future, -math.inf)
        gathered.append(torch.softmax(scores, dim=-1) @ v)
    return torch.cat(gathered, dim=1)


def _turned(x, rotary):
    """Numbers 2 i and 2 i + 1 as a complex one, turned by position * 10000^(-2i/rotary)."""
    pairs = torch.view_as_complex(x[:, :rotary].reshape(len(x), -1, 2).contiguous())
    rates = 10_000.0 ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary)
    angles = torch.arange(len(x), dtype=torch.float64)[:, None] * rates
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([torch.view_as_real(turned).reshape(len(x), -1), x[:, rotary:]], dim=1)


def _linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _layer_norm(weights, name, x):
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(dim=-1, keepdim=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu_new(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

"""AdaViT's evaluation pass written out once more from its description, plainly: NumPy, float64, one image at a time.

Works on a state dict and the switches alone and shares no code with `laudnet`. Scores outside the kept tokens are
minus infinity, except that every token sees itself; products with masks do the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Array = np.ndarray
Weights = Mapping[str, Array]


class Reference:
    """`switches`: AdaViT's, with heads, scale, eps, t2t (bool) and patch; `decisions` is filled by `logits`."""

    def __init__(self, weights: Weights, switches: Mapping[str, object]) -> None:
        self.w = {key: value.astype(np.float64) for key, value in weights.items()}
        self.s = switches
        self.decisions: list[dict[str, Array]] = []

    def logits(self, image: Array) -> Array:
        """(3, H, H) -> (classes)."""
        self.decisions = []
        tokens = self._t2t(image) if self.s["t2t"] else self._patches(image)
        x = np.concatenate([self.w["cls_token"][0], tokens]) + self.w["pos_embed"][0]
        depth = 1 + max(int(key.split(".")[1]) for key in self.w if key.startswith("blocks."))
        for index in range(depth):
            x = self._block(x, f"blocks.{index}.")
        return self._linear("head.", self._norm("norm.", x[:1]))[0]

    def _block(self, x: Array, at: str) -> Array:
        made: dict[str, Array] = {}
        policy = x[:1]
        if f"{at}norm_policy.weight" in self.w:
            policy = self._norm(f"{at}norm_policy.", policy)
        head, layer = np.ones(self.s["heads"]), np.ones(2)
        if f"{at}layer_select.mlp_head.weight" in self.w:
            layer = made["layer"] = _sigmoid(self._linear(f"{at}layer_select.mlp_head.", policy)[0]) > 0.5
        chooses_heads = f"{at}head_select.mlp_head.weight" in self.w
        if chooses_heads:
            head = made["head"] = _sigmoid(self._linear(f"{at}head_select.mlp_head.", policy)[0]) > 0.5
        u = self._norm(f"{at}norm1.", x)
        token = np.ones(len(x))
        if f"{at}attn.token_select.mlp_head.weight" in self.w:
            chosen = _sigmoid(self._linear(f"{at}attn.token_select.mlp_head.", u[1:])[:, 0]) > 0.6
            made["token"] = chosen
            token = np.concatenate([[1.0], chosen])
        self.decisions.append(made)
        values_pass = chooses_heads and bool(self.s["ada_head_attn"])
        x = x + float(layer[0]) * token[:, None] * self._attention(f"{at}attn.", u, token, head, values_pass)
        v = self._norm(f"{at}norm2.", x)
        in_mlp = token if self.s["ada_token_with_mlp"] else np.ones(len(x))
        width = "full"
        if chooses_heads and not values_pass:
            width = "out" if self.s["ada_head_v2"] else "in"
        return x + float(layer[1]) * in_mlp[:, None] * self._mlp(f"{at}mlp.", v, head, width)

    def _attention(self, at: str, u: Array, token: Array, head: Array, values_pass: bool) -> Array:
        count = len(head)
        q, k, v = (np.split(self._linear(f"{at}{part}.", u), count, axis=1) for part in ("query", "key", "value"))
        seen = np.outer(token, token) + np.eye(len(token)) > 0
        out = []
        for h in range(count):
            scores = np.where(seen, q[h] @ k[h].T * float(self.s["scale"]), -np.inf)
            grown = np.exp(scores - scores.max(axis=1, keepdims=True))
            attended = grown / grown.sum(axis=1, keepdims=True) @ v[h]
            out.append(attended if head[h] else (v[h] if values_pass else 0 * v[h]))
        return self._linear(f"{at}proj.", np.concatenate(out, axis=1))

    def _mlp(self, at: str, v: Array, head: Array, width: str) -> Array:
        if width == "in":
            v = v * np.repeat(head, v.shape[1] // len(head))
        hidden = self._linear(f"{at}fc1.", v)
        if width == "out":
            hidden = hidden * np.repeat(head, hidden.shape[1] // len(head))
        return self._linear(f"{at}fc2.", _gelu(hidden))

    def _patches(self, image: Array) -> Array:
        side = int(self.s["patch"])
        rows = [
            image[:, y : y + side, x : x + side].ravel()
            for y in range(0, image.shape[1], side)
            for x in range(0, image.shape[2], side)
        ]
        weight = self.w["patch_embed.proj.weight"]
        return np.stack(rows) @ weight.reshape(len(weight), -1).T + self.w["patch_embed.proj.bias"]

    def _t2t(self, image: Array) -> Array:
        x = self._performer("tokens_to_token.attention1.", _unfold(image, 7, 4, 2))
        x = self._performer("tokens_to_token.attention2.", _unfold(_as_map(x), 3, 2, 1))
        return self._linear("tokens_to_token.project.", _unfold(_as_map(x), 3, 2, 1))

    def _performer(self, at: str, x: Array) -> Array:
        k, q, v = np.split(self._linear(f"{at}kqv.", self._norm(f"{at}norm1.", x, 1e-5)), 3, axis=1)
        w = self.w[f"{at}w"]
        kp, qp = (np.exp(t @ w.T - (t**2).sum(axis=1, keepdims=True) / 2) / math.sqrt(len(w)) for t in (k, q))
        y = v + self._linear(f"{at}proj.", qp @ (kp.T @ v) / ((qp @ kp.sum(axis=0))[:, None] + 1e-8))
        hidden = self._linear(f"{at}mlp.0.", self._norm(f"{at}norm2.", y, 1e-5))
        return y + self._linear(f"{at}mlp.2.", _gelu(hidden))

    def _linear(self, at: str, x: Array) -> Array:
        return x @ self.w[f"{at}weight"].T + self.w.get(f"{at}bias", 0.0)

    def _norm(self, at: str, x: Array, eps: float | None = None) -> Array:
        spread = np.sqrt(x.var(axis=1, keepdims=True) + (float(self.s["eps"]) if eps is None else eps))
        return (x - x.mean(axis=1, keepdims=True)) / spread * self.w[f"{at}weight"] + self.w[f"{at}bias"]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _as_map(tokens: Array) -> Array:
    side = math.isqrt(len(tokens))
    return tokens.T.reshape(-1, side, side)


def _unfold(image: Array, window: int, stride: int, pad: int) -> Array:
    """(C, H, W) -> (positions, C · window²), features (channel, row, column)."""
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    starts = range(0, padded.shape[1] - window + 1, stride)
    return np.stack([padded[:, y : y + window, x : x + window].ravel() for y in starts for x in starts])

#!/usr/bin/python3
# A Llama forward pass in binary64, straight from a Hugging Face directory.
#
#   oracle_llama.py MODEL_DIR IDS OUT [--eps E]
#
# IDS is a text file of token ids (or '-' for standard input); OUT gets the logits of every
# position, raw little-endian f64 [tokens, vocab].  Reads config.json and *.safetensors
# itself, contains no Pith code, and follows the published architecture, not spec/: the
# engine is measured against this.
#
# SPDX-License-Identifier: Apache-2.0

import argparse
import json
import pathlib
import sys

import numpy as np


def widen(raw, dtype):
	"""Stored values -> f64, exactly."""
	if dtype == "BF16":
		return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
	return np.frombuffer(raw, {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).astype(np.float64)


def read_safetensors(path):
	"""{name: f64 array} of one file."""
	data = pathlib.Path(path).read_bytes()
	size = int.from_bytes(data[:8], "little")
	header, body = json.loads(data[8:8 + size]), data[8 + size:]
	header.pop("__metadata__", None)
	return {name: widen(body[slice(*t["data_offsets"])], t["dtype"]).reshape(t["shape"])
	        for name, t in header.items()}


class Llama:
	def __init__(self, folder, eps=None):
		folder = pathlib.Path(folder)
		c = json.loads((folder / "config.json").read_text())
		self.weights = {}
		for path in sorted(folder.glob("*.safetensors")):
			self.weights.update(read_safetensors(path))
		self.blocks = c["num_hidden_layers"]
		self.heads = c["num_attention_heads"]
		self.kv_heads = c.get("num_key_value_heads", self.heads)
		self.head_dim = c.get("head_dim") or c["hidden_size"] // self.heads
		self.eps = c["rms_norm_eps"] if eps is None else eps
		self.theta = float(c.get("rope_theta", 10000.0))
		if c.get("rope_scaling") or c.get("attention_bias") or c.get("mlp_bias"):
			raise SystemExit("config.json: rope_scaling and biases are not covered")
		tied = c.get("tie_word_embeddings", False)
		self.head = self.weights["model.embed_tokens.weight" if tied else "lm_head.weight"]

	def norm(self, x, w):
		return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.eps) * w

	def rotate(self, x):
		"""x: [tokens, heads, head_dim]; half-split rotation, positions from 0."""
		half = self.head_dim // 2
		angle = np.arange(len(x))[:, None] * self.theta ** (-2.0 * np.arange(half) / self.head_dim)
		cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
		low, high = x[..., :half], x[..., half:]
		return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)

	def attention(self, x, prefix):
		tokens, w = len(x), self.weights
		project = lambda name, heads: (x @ w[f"{prefix}.{name}_proj.weight"].T).reshape(tokens, heads, self.head_dim)
		q, k = self.rotate(project("q", self.heads)), self.rotate(project("k", self.kv_heads))
		v = project("v", self.kv_heads)
		mask = np.triu(np.full((tokens, tokens), -np.inf), 1)
		out = np.empty_like(q)
		for head in range(self.heads):
			kv = head // (self.heads // self.kv_heads)
			s = q[:, head] @ k[:, kv].T / np.sqrt(self.head_dim) + mask
			p = np.exp(s - s.max(axis=1, keepdims=True))
			out[:, head] = p @ v[:, kv] / p.sum(axis=1, keepdims=True)
		return out.reshape(tokens, -1) @ w[f"{prefix}.o_proj.weight"].T

	def feed_forward(self, x, prefix):
		w = self.weights
		gate = x @ w[f"{prefix}.gate_proj.weight"].T
		up = x @ w[f"{prefix}.up_proj.weight"].T
		return (gate / (1 + np.exp(-gate)) * up) @ w[f"{prefix}.down_proj.weight"].T

	def logits(self, ids):
		"""ids: token ids -> [tokens, vocab] f64, each position seeing those before it."""
		w = self.weights
		x = w["model.embed_tokens.weight"][np.asarray(ids)]
		for i in range(self.blocks):
			p = f"model.layers.{i}"
			x = x + self.attention(self.norm(x, w[f"{p}.input_layernorm.weight"]), f"{p}.self_attn")
			x = x + self.feed_forward(self.norm(x, w[f"{p}.post_attention_layernorm.weight"]), f"{p}.mlp")
		return self.norm(x, w["model.norm.weight"]) @ self.head.T


def nll(logits, ids):
	"""Sum of -log p of ids[1:] given the ones before."""
	z = logits[:-1]
	top = z.max(axis=1, keepdims=True)
	lse = top[:, 0] + np.log(np.exp(z - top).sum(axis=1))
	return float((lse - z[np.arange(len(z)), np.asarray(ids)[1:]]).sum())


def main():
	parser = argparse.ArgumentParser(description="Logits of a Llama model in binary64.")
	parser.add_argument("model")
	parser.add_argument("ids", help="text file of token ids, - for standard input")
	parser.add_argument("out")
	parser.add_argument("--eps", type=float, help="another rms_norm_eps than config.json's")
	args = parser.parse_args()
	text = sys.stdin.read() if args.ids == "-" else pathlib.Path(args.ids).read_text()
	ids = [int(word) for word in text.replace(",", " ").split()]
	Llama(args.model, args.eps).logits(ids).astype("<f8").tofile(args.out)


if __name__ == "__main__":
	main()

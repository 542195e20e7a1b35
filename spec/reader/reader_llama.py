# models/llama.md by the prose: the forward pass of a stored model, bit for bit.
#
# One token after the other, nothing shared or batched; minutes for what the engine does in
# milliseconds.  It shows that numerics.md is complete.
#
# SPDX-License-Identifier: Apache-2.0

import struct

import numpy as np

import reader_numerics as numerics
from reader_container import sum_of_terms

F32 = np.float32


class Linear:
	"""A weight bound once."""

	def __init__(self, file, name):
		weight = file.find(name)
		self.terms, self.transforms = file.bind(weight)
		self.m = weight.m
		self.rows = np.arange(weight.m)

	def apply(self, x):
		return sum_of_terms(self.terms, self.transforms, x, self.rows)


class Block:
	def __init__(self, file, i):
		raw, _ = file.entry("BLCK", i)
		(flags, self.heads, self.kv_heads, self.head_dim, self.ffn, attention_of, ffn_of, self.window,
		 attention_const, ffn_const) = struct.unpack_from("<10I", raw, 0)
		self.kv_dtype = file.arch()["kv_dtype"]
		self.has_attention, self.has_ffn = bool(flags & 1), bool(flags & 2)
		own, attention, ffn = (f"model.layers.{n}." for n in (i, attention_of, ffn_of))
		vector = lambda name: file.unpack(file.find(name)).reshape(-1)
		const = lambda index: file.unpack(file.weight(index - 1)).reshape(-1) if index else None
		self.attention_const, self.ffn_const = const(attention_const), const(ffn_const)
		if self.has_attention:
			self.norm = vector(own + "input_layernorm.weight")
			self.q, self.k, self.v, self.o = (Linear(file, f"{attention}self_attn.{p}_proj.weight") for p in "qkvo")
			self.keys = np.zeros((0, self.kv_heads, self.head_dim), F32)
			self.values = self.key_scales = self.value_scales = self.keys
		if self.has_ffn:
			self.ffn_norm = vector(own + "post_attention_layernorm.weight")
			self.gate, self.up, self.down = (Linear(file, f"{ffn}mlp.{p}_proj.weight") for p in ("gate", "up", "down"))

	def append(self, rows, scales, new):
		held, scale = zip(*(numerics.cached(self.kv_dtype, head) for head in new))
		return np.concatenate([rows, np.stack(held)[None]]), np.concatenate([scales, np.stack(scale)[None]])

	def attend(self, n, position, cos, sin):
		shape = lambda y, heads: y.reshape(heads, self.head_dim)
		q, k, v = shape(self.q.apply(n), self.heads), shape(self.k.apply(n), self.kv_heads), shape(self.v.apply(n), self.kv_heads)
		q = np.stack([numerics.rotate(h, cos, sin) for h in q])
		k = np.stack([numerics.rotate(h, cos, sin) for h in k])
		self.keys, self.key_scales = self.append(self.keys, self.key_scales, k)
		self.values, self.value_scales = self.append(self.values, self.value_scales, v)
		scaled = self.kv_dtype == numerics.I8_CACHE
		out = []
		for head in range(self.heads):
			kv = head * self.kv_heads // self.heads
			scales = (self.key_scales[:, kv], self.value_scales[:, kv]) if scaled else ()
			out.append(numerics.attention(q[head], self.keys[:, kv], self.values[:, kv], position, self.window, *scales))
		return self.o.apply(np.concatenate(out))


def logits(file, ids):
	"""[tokens, vocab] f32 of one sequence that starts with ids[0] at position 0."""
	arch = file.arch()
	eps, ratio = F32(arch["rms_norm_eps"]), arch["rope.ratio"]
	blocks = [Block(file, i) for i in range(file.count("BLCK"))]
	embedding = file.unpack(file.find("model.embed_tokens.weight"))
	last_norm = file.unpack(file.find("model.norm.weight")).reshape(-1)
	head = Linear(file, "model.embed_tokens.weight" if arch["head_tied"] else "lm_head.weight")
	out = []
	for position, token in enumerate(ids):
		x = embedding[token]
		for block in blocks:
			if block.has_attention:
				cos, sin = numerics.rotation(position, block.head_dim, ratio)
				n = numerics.rmsnorm(x, block.norm, eps)
				x = x + block.attend(n, position, cos, sin)
			elif block.attention_const is not None:
				x = x + block.attention_const
			if block.has_ffn:
				n = numerics.rmsnorm(x, block.ffn_norm, eps)
				x = x + block.down.apply(numerics.silu_gate(block.gate.apply(n), block.up.apply(n)))
			elif block.ffn_const is not None:
				x = x + block.ffn_const
		out.append(head.apply(numerics.rmsnorm(x, last_norm, eps)))
	return np.stack(out)

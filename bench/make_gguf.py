#!/usr/bin/python3
# A GGUF file of a llama shape with seeded numbers in place of weights, for the speed of others:
#
#   make_gguf.py TYPE OUT [BLOCKS HIDDEN FFN HEADS KV_HEADS VOCAB]        TYPE: Q8_0 Q4_0 Q4_K_M Q3_K_S
#
# Blocks of numbers repeat; the two scales of a block are small so that nothing overflows.
#
# SPDX-License-Identifier: Apache-2.0

import struct
import sys

import numpy as np

# name: id, elements and bytes of a block, offsets of its binary16 scales
FORMATS = {"F32": (0, 1, 4, ()), "Q4_0": (2, 32, 18, (0,)), "Q8_0": (8, 32, 34, (0,)), "Q3_K": (11, 256, 110, (108,)),
           "Q4_K": (12, 256, 144, (0, 2)), "Q6_K": (14, 256, 210, (208,))}
ALIGN, PATTERN_BLOCKS = 32, 8192
U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9


def text(s):
	raw = s.encode()
	return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
	return text(v) if kind == STRING else struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], v)


def key(name, kind, v):
	if isinstance(v, list):
		return text(name) + struct.pack("<IIQ", ARRAY, kind, len(v)) + b"".join(value(kind, x) for x in v)
	return text(name) + struct.pack("<I", kind) + value(kind, v)


def format_of(mix, name, block, blocks):
	"""Which format the mixes give a matrix, as their names are used in 2024 to 2026."""
	if mix in ("Q8_0", "Q4_0"):
		return "Q6_K" if name == "output" and mix == "Q4_0" else mix
	if name == "output":
		return "Q6_K"
	if mix == "Q3_K_S":
		return "Q3_K"
	more = block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2
	return "Q6_K" if more and name in ("attn_v", "ffn_down") else "Q4_K"


def tensors(mix, blocks, hidden, ffn, heads, kv_heads, vocab):
	"""(name, columns, rows, format); rows 0: a vector."""
	kv = hidden // heads * kv_heads
	yield "token_embd", hidden, vocab, format_of(mix, "token_embd", 0, blocks)
	for i in range(blocks):
		for name, n, m in (("attn_norm", hidden, 0), ("attn_q", hidden, hidden), ("attn_k", hidden, kv), ("attn_v", hidden, kv),
		                   ("attn_output", hidden, hidden), ("ffn_norm", hidden, 0), ("ffn_gate", hidden, ffn),
		                   ("ffn_up", hidden, ffn), ("ffn_down", ffn, hidden)):
			yield f"blk.{i}.{name}", n, m, format_of(mix, name, i, blocks) if m else "F32"
	yield "output_norm", hidden, 0, "F32"
	yield "output", hidden, vocab, format_of(mix, "output", 0, blocks)


def pattern(name):
	_, _, nbytes, scales = FORMATS[name]
	data = np.random.default_rng(1).integers(0, 256, (PATTERN_BLOCKS, nbytes), np.uint8)
	for at in scales:
		data[:, at:at + 2] = np.full(PATTERN_BLOCKS, 0.0002, np.float16).view(np.uint8).reshape(-1, 2)
	return data.tobytes()


def write(path, mix, shape):
	blocks, hidden, ffn, heads, kv_heads, vocab = shape
	tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + [f"t{i}" for i in range(vocab - 259)]
	keys = [key("general.architecture", STRING, "llama"), key("general.name", STRING, "synthetic"),
	        key("llama.context_length", U32, 2048), key("llama.embedding_length", U32, hidden),
	        key("llama.block_count", U32, blocks), key("llama.feed_forward_length", U32, ffn),
	        key("llama.attention.head_count", U32, heads), key("llama.attention.head_count_kv", U32, kv_heads),
	        key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), key("llama.rope.dimension_count", U32, hidden // heads),
	        key("llama.vocab_size", U32, vocab), key("tokenizer.ggml.model", STRING, "llama"),
	        key("tokenizer.ggml.tokens", STRING, tokens), key("tokenizer.ggml.scores", F32, [-float(i) for i in range(vocab)]),
	        key("tokenizer.ggml.token_type", I32, [2, 3, 3] + [6] * 256 + [1] * (vocab - 259)),
	        key("tokenizer.ggml.bos_token_id", U32, 1), key("tokenizer.ggml.eos_token_id", U32, 2)]
	infos, sizes, offset = [], [], 0
	for name, n, m, form in tensors(mix, *shape):
		kind, elements, block_nbytes, _ = FORMATS[form]
		nbytes = max(m, 1) * n // elements * block_nbytes
		dims = (n, m) if m else (n,)
		infos.append(text(name + ".weight") + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset))
		sizes.append((form, nbytes))
		offset += -(-nbytes // ALIGN) * ALIGN
	patterns = {form: pattern(form) for form, _ in set(sizes) if form != "F32"}
	with open(path, "wb") as out:
		out.write(b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys) + b"".join(infos))
		out.write(bytes(-out.tell() % ALIGN))
		for form, nbytes in sizes:
			if form == "F32":
				out.write(np.ones(nbytes // 4, np.float32).tobytes())
			else:
				whole, rest = divmod(nbytes, len(patterns[form]))
				for _ in range(whole):
					out.write(patterns[form])
				out.write(patterns[form][:rest])
			out.write(bytes(-nbytes % ALIGN))


if __name__ == "__main__":
	shape = [int(a) for a in sys.argv[3:]] or [22, 2048, 5632, 32, 4, 32000]
	write(sys.argv[2], sys.argv[1], shape)

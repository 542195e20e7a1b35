#!/usr/bin/python3
# pith convert and pith export against NumPy: round trips bit by bit, every scheme against an
# independent rounding to nearest, hostile checkpoints and their exit codes.
#
# Files are read back by the spec's reader (spec/reader), never by the code under test.
# Runs from the root of the tree; BUILD names the folder of the pith command.
#
# SPDX-License-Identifier: Apache-2.0

import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
PITH = ROOT / os.environ.get("BUILD", "build") / "pith"
sys.path.insert(0, str(ROOT / "spec" / "reader"))
from reader_container import PithFile  # noqa: E402
from reader_verify import verify  # noqa: E402

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8}


# ---- safetensors, by its own description ----

def write_safetensors(path, tensors, header=None, metadata=None):
	"""tensors: name -> (dtype, shape, bytes)."""
	entries, blobs, off = {}, [], 0
	if metadata:
		entries["__metadata__"] = metadata
	for name, (dtype, shape, data) in tensors.items():
		entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [off, off + len(data)]}
		blobs.append(data)
		off += len(data)
	text = json.dumps(entries).encode() if header is None else header
	path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
	raw = path.read_bytes()
	size = struct.unpack_from("<Q", raw)[0]
	out = {}
	for name, e in json.loads(raw[8:8 + size]).items():
		if name != "__metadata__":
			begin, end = e["data_offsets"]
			out[name] = (e["dtype"], e["shape"], raw[8 + size + begin:8 + size + end])
	return out


def to_f32(tensor):
	dtype, shape, data = tensor
	if dtype == "F32":
		values = np.frombuffer(data, "<f4")
	elif dtype == "F16":
		values = np.frombuffer(data, "<f2").astype(np.float32)
	else:
		values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
	return values.reshape(shape)


def to_bf16_bits(values):
	"""Nearest even."""
	bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
	return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def encode(values, dtype):
	if dtype == "F32":
		return np.asarray(values, "<f4").tobytes()
	if dtype == "F16":
		return np.asarray(values, "<f2").tobytes()
	return to_bf16_bits(values).astype("<u2").tobytes()


# ---- a small model with awkward sizes ----

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 40,
          "intermediate_size": 75, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 70, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 64, "rope_theta": 5000.0, "tie_word_embeddings": False,
          "bos_token_id": 1, "eos_token_id": [2, 3]}


def shapes():
	yield "model.embed_tokens.weight", [70, 40]
	for i in range(2):
		p = f"model.layers.{i}."
		yield p + "input_layernorm.weight", [40]
		for name, shape in (("q", [48, 40]), ("k", [24, 40]), ("v", [24, 40]), ("o", [40, 48])):
			yield f"{p}self_attn.{name}_proj.weight", shape
		yield p + "post_attention_layernorm.weight", [40]
		for name, shape in (("gate", [75, 40]), ("up", [75, 40]), ("down", [40, 75])):
			yield f"{p}mlp.{name}_proj.weight", shape
	yield "model.norm.weight", [40]
	yield "lm_head.weight", [70, 40]


def small_tensors(dtype="BF16", seed=1):
	rng = np.random.default_rng(seed)
	out = {}
	for name, shape in shapes():
		values = rng.standard_normal(shape).astype(np.float32) * 0.05
		if name == "lm_head.weight":  # groups that are zero, constant, of one sign, tiny
			values[0], values[1], values[2], values[3] = 0, 0.375, -0.25, np.abs(values[3]) + 1
			values[4] *= 1e-7
			values[5, 3] = -0.0
		out[name] = (dtype, shape, encode(values, dtype))
	return out


# ---- round to nearest, in NumPy ----

def half(values):
	with np.errstate(over="ignore"):
		return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def rtn_rows(w, bits, group, zero):
	"""What a row of groups decodes to with search=0; w: [m, n] f32."""
	m, n = w.shape
	group = group or n
	top = np.float32(2 ** bits - 1)
	out = np.empty_like(w)
	for row in range(m):
		for first in range(0, n, group):
			g = w[row, first:first + group]
			out[row, first:first + group] = rtn_group(g, top, zero)
	return out


def decode_nearest(g, s, z, top):
	with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
		q = np.rint(np.clip(g / s + z, np.float32(0), top))
	return (s * (q - z)).astype(np.float32)


def scale_of(s):
	s = half(s)
	return s if s != 0 else np.float32(2.0 ** -24)


def rtn_group(g, top, zero):
	lo, hi = g.min(), g.max()
	if zero == "sym":
		z = np.float32((top + 1) / 2)
		lo0, hi0 = min(lo, np.float32(0)), max(hi, np.float32(0))
		s = half((lo0 if abs(lo0) >= hi0 else hi0) / -z)
		if s == 0:
			s = np.float32(-2.0 ** -24 if (lo0 if abs(lo0) >= hi0 else hi0) / -z < 0 else 2.0 ** -24)
		return decode_nearest(g, s, z, top)
	if lo == hi and lo != 0:
		return decode_nearest(g, scale_of(abs(lo)), np.float32(1 if lo < 0 else 0), top)

	lo, hi = min(lo, np.float32(0)), max(hi, np.float32(0))
	s = scale_of((hi - lo) / top)
	return decode_nearest(g, s, np.rint(np.clip(-lo / s, np.float32(0), top)), top)


class Case(unittest.TestCase):
	def setUp(self):
		self.dir = pathlib.Path(tempfile.mkdtemp(prefix="test_convert."))
		self.addCleanup(shutil.rmtree, self.dir)

	def pith(self, *args, code=0):
		"""Run the command; stdout, stderr."""
		p = subprocess.run([PITH, *map(str, args)], capture_output=True, text=True, timeout=120)
		self.assertEqual(p.returncode, code, f"{args}: {p.stdout}{p.stderr}")
		if code != 0:
			self.assertTrue(p.stderr.strip(), f"{args}: no message")
		return p.stdout, p.stderr

	def source(self, tensors=None, config=CONFIG, name="src", **kwargs):
		folder = self.dir / name
		folder.mkdir()
		(folder / "config.json").write_text(json.dumps(config))
		write_safetensors(folder / "model.safetensors",
		                  small_tensors() if tensors is None else tensors, **kwargs)
		return folder

	def convert(self, source, *args, name="out.pith"):
		out = self.dir / name
		stdout, _ = self.pith("convert", source, "-o", out, "--json", *args)
		return out, json.loads(stdout)

	def open(self, path, check=True):
		data = path.read_bytes()
		file = PithFile(data)
		if check:
			self.assertEqual([str(f) for f in verify(file)], [])
		return file

	def only_source_left(self):
		self.assertEqual([p.name for p in self.dir.iterdir() if p.name != "src"], [])


class RoundTrip(Case):
	def round_trip(self, source, *args):
		pith_file, _ = self.convert(source, *args)
		back = self.dir / "back"
		stdout, _ = self.pith("export", pith_file, "-o", back, "--json")
		self.assertEqual(json.loads(stdout)["decoded"], 0)
		self.assertEqual(read_safetensors(back / "model.safetensors"),
		                 read_safetensors(source / "model.safetensors"))
		for text in ("config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE"):
			if (source / text).exists():
				self.assertEqual((back / text).read_bytes(), (source / text).read_bytes())

	def test_tiny1m(self):
		self.round_trip(ROOT / "models" / "tiny1m")

	def test_books6m(self):
		self.round_trip(ROOT / "models" / "books6m")

	def test_f32(self):
		source = self.source(small_tensors("F32"))
		(source / "LICENSE").write_text("Do as you like.\n")
		(source / "tokenizer_config.json").write_text('{"model_max_length": 1' + 30 * "0" + "}")
		self.round_trip(source, "--scheme", "f32")

	def test_f16(self):
		self.round_trip(self.source(small_tensors("F16")), "--scheme", "f16")

	def test_shared_stories(self):
		shared = os.environ.get("PITH_SHARED")
		if not shared:
			self.skipTest("PITH_SHARED is not set")
		self.round_trip(pathlib.Path(shared) / "models" / "stories260K-hf", "--scheme", "f32")

	def test_wider_dtype_is_exact(self):
		source = self.source()
		out, _ = self.convert(source, "--scheme", "f32")
		self.pith("export", out, "-o", self.dir / "back")
		self.assertEqual(read_safetensors(self.dir / "back" / "model.safetensors"),
		                 read_safetensors(source / "model.safetensors"))

	def test_narrower_dtype_rounds(self):
		tensors = small_tensors("F32")
		out, result = self.convert(self.source(tensors), "--scheme", "bf16")
		file = self.open(out)
		for name, tensor in tensors.items():
			got = file.unpack(file.find(name))
			want = to_f32(tensor)
			if len(tensor[1]) == 2:
				want = (to_bf16_bits(want).astype(np.uint32) << 16).view(np.float32)
			self.assertTrue(np.array_equal(got.reshape(want.shape), want), name)
		error = [g["relative_error"] for g in result["schemes"] if g["scheme"] == "bf16"][0]
		self.assertTrue(1e-4 < error < 4e-3, error)

	def test_shards(self):
		tensors = small_tensors()
		names = list(tensors)
		source = self.dir / "src"
		source.mkdir()
		(source / "config.json").write_text(json.dumps(CONFIG))
		weight_map = {}
		for i in range(3):
			shard = f"model-{i + 1:05}-of-00003.safetensors"
			part = {n: tensors[n] for n in names[i::3]}
			weight_map.update({n: shard for n in part})
			write_safetensors(source / shard, part, metadata={"format": "pt"})
		(source / "model.safetensors.index.json").write_text(
		    json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
		sharded, _ = self.convert(source)
		self.pith("export", sharded, "-o", self.dir / "back")
		self.assertEqual(read_safetensors(self.dir / "back" / "model.safetensors"), tensors)
		for bad in ("../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 7):
			broken = dict(weight_map, **{names[0]: bad})
			(source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": broken}))
			self.pith("convert", source, "--dry-run", code=3)
		missing = dict(weight_map, **{names[0]: "none.safetensors"})
		(source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": missing}))
		_, err = self.pith("convert", source, "--dry-run", code=3)
		self.assertIn("none.safetensors", err)
		elsewhere = dict(weight_map, **{names[0]: weight_map[names[1]]})
		(source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": elsewhere}))
		self.pith("convert", source, "--dry-run", code=3)

	def test_single_file(self):
		source = self.source()
		a, _ = self.convert(source, name="a.pith")
		b, _ = self.convert(source / "model.safetensors", name="b.pith")
		self.assertEqual(a.read_bytes(), b.read_bytes())


class Schemes(Case):
	def test_rtn_is_round_to_nearest(self):
		tensors = small_tensors("F32")
		source = self.source(tensors)
		for i, (bits, group, zero) in enumerate(
		    [(2, "32", "int"), (3, "16", "sym"), (4, "64", "int"), (5, "row", "sym"),
		     (6, "16", "int"), (7, "32", "sym"), (8, "row", "int")]):
			with self.subTest(bits=bits, group=group, zero=zero):
				out, _ = self.convert(source, "-s",
				                      f"rtn:bits={bits},group={group},zero={zero},search=0",
				                      name=f"{i}.pith")
				file = self.open(out)
				for name in ("lm_head.weight", "model.layers.1.mlp.down_proj.weight"):
					want = rtn_rows(to_f32(tensors[name]), bits, 0 if group == "row" else int(group),
					                zero)
					got = file.unpack(file.find(name))
					self.assertTrue(np.array_equal(got, want), f"{name}: {np.argwhere(got != want)[:4]}")

	def test_every_scheme_of_tiny1m(self):
		source = ROOT / "models" / "tiny1m"
		name = "model.layers.2.mlp.up_proj.weight"
		w = to_f32(read_safetensors(source / "model.safetensors")[name])
		last = 1.0
		for bits in range(2, 9):
			errors = {}
			for scheme in (f"rtn:bits={bits},group=32,zero=int,search=0",
			               f"rtn:bits={bits},group=32,zero=int", f"rtn:bits={bits},group=32,zero=real",
			               f"rtn:bits={bits},group=32,zero=sym"):
				out, result = self.convert(source, "--scheme", scheme, "--force")
				file = self.open(out, check=bits in (3, 8) and "search" not in scheme)
				got = file.unpack(file.find(name))
				errors[scheme] = np.linalg.norm(got - w) / np.linalg.norm(w)
				plain = bits + 16 / 32 + {"int": 8 / 32, "real": 16 / 32, "sym": 0}[
				    scheme.split("zero=")[1].split(",")[0]]
				self.assertTrue(plain <= result["bits_per_weight"] < plain + 0.6,
				                f"{scheme}: {result['bits_per_weight']}")
			plain, searched = list(errors.values())[:2]
			self.assertLess(searched, plain)
			self.assertLess(searched, 0.62 * last)
			last = searched

	def test_recorded_error_and_source(self):
		tensors = small_tensors()
		source = self.source(tensors)
		out, result = self.convert(source, "-s", "rtn:bits=4,group=32")
		file = self.open(out)
		want, digests = {}, []
		for i in range(file.count("LINE")):
			raw, _ = file.entry("LINE", i)
			kind, weight = struct.unpack_from("<2I", raw)
			if kind == 7:
				want[file.weight(weight - 1).name] = struct.unpack_from("<2d", raw, 32)
			if kind == 1:
				digests.append(raw[48:80].hex())
		self.assertEqual(digests, [hashlib.sha256(
		    (source / "model.safetensors").read_bytes()).hexdigest()])
		error2 = norm2 = 0
		for name, tensor in tensors.items():
			w = to_f32(tensor).astype(np.float64)
			e = file.unpack(file.find(name)).reshape(w.shape) - w
			self.assertAlmostEqual(want[name][0], np.sqrt((e ** 2).sum() / (w ** 2).sum()), delta=1e-9)
			if w.ndim == 2:
				error2 += (e ** 2).sum()
				norm2 += (w ** 2).sum()
		group = [g for g in result["schemes"] if g["scheme"].startswith("rtn")][0]
		self.assertAlmostEqual(group["relative_error"], np.sqrt(error2 / norm2), delta=1e-9)

	def test_threads_do_not_matter(self):
		source = ROOT / "models" / "tiny1m"
		outs = [self.convert(source, "-s", "rtn:bits=3", "-t", t, name=f"{t}.pith")[0]
		        for t in (1, 3)]
		self.assertEqual(outs[0].read_bytes(), outs[1].read_bytes())

	def test_rules(self):
		source = self.source()
		out, result = self.convert(source, "-s", "rtn:bits=4", "-r", "lm_head|embed=rtn:bits=8,group=32",
		                           "-r", "embed_tokens=f32", "-r", "model.norm=f32",
		                           "-r", "layers.1.*=rtn:bits=3")
		file = self.open(out)
		terms = {}
		for w in file.weights():
			(term,), _ = file.bind(w)
			terms[w.name] = (term.name, getattr(term, "bits", None))
		self.assertEqual(terms["model.embed_tokens.weight"], ("dense", None))
		self.assertEqual(terms["lm_head.weight"], ("affine", 8))
		self.assertEqual(terms["model.layers.0.mlp.up_proj.weight"], ("affine", 4))
		self.assertEqual(terms["model.layers.1.mlp.up_proj.weight"], ("affine", 3))
		self.assertEqual(terms["model.layers.1.input_layernorm.weight"], ("dense", None))
		self.assertEqual(sum(g["weights"] for g in result["schemes"]), result["weights"])
		self.assertEqual(sum(g["nbytes"] for g in result["schemes"]), result["weight_nbytes"])
		self.pith("convert", source, "--dry-run", "-r", "no_such=f32", code=2)
		self.pith("convert", source, "--dry-run", "-r", "(=f32", code=2)
		self.pith("convert", source, "--dry-run", "-r", "f32", code=2)

	def test_wrong_schemes(self):
		source = self.source()
		for scheme in ("", "q4", "rtn:", "rtn:bits", "rtn:bits=", "rtn:bits=1", "rtn:bits=9",
		               "rtn:bits=4,", "rtn:group=48", "rtn:zero=maybe", "rtn:search=2", "rtn:colour=4",
		               "bf16:bits=4", "rtn:bits=99999999999999999999", "rtn:bits=4x"):
			_, err = self.pith("convert", source, "--dry-run", "--scheme", scheme, code=2)
			self.assertIn("convert:", err)

	def test_dry_run(self):
		source = ROOT / "models" / "books6m"
		for scheme in ("bf16", "rtn:bits=4,group=32"):
			stdout, _ = self.pith("convert", source, "--dry-run", "--json", "-s", scheme)
			guess = json.loads(stdout)
			self.assertEqual(list(self.dir.iterdir()), [])
			out, result = self.convert(source, "-s", scheme)
			self.assertEqual(result["nbytes"], out.stat().st_size)
			self.assertAlmostEqual(guess["nbytes"] / result["nbytes"], 1, delta=0.03)
			self.assertAlmostEqual(guess["bits_per_weight"] / result["bits_per_weight"], 1, delta=0.03)
			out.unlink()

	def test_target(self):
		source = self.source()
		self.pith("convert", source, code=2)
		out, _ = self.convert(source)
		before = out.read_bytes()
		self.pith("convert", source, "-o", out, "-s", "rtn:bits=2", code=1)
		self.assertEqual(out.read_bytes(), before)
		self.convert(source, "-s", "rtn:bits=2", "--force")
		self.assertLess(out.stat().st_size, len(before))
		self.pith("convert", source, "-o", self.dir / "none" / "x.pith", code=1)
		self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["out.pith", "src"])


class Refusals(Case):
	def refuse(self, code, mention, tensors=None, config=CONFIG, **kwargs):
		source = self.source(tensors, config, **kwargs)
		_, err = self.pith("convert", source, "-o", self.dir / "out.pith", code=code)
		self.assertIn(mention, err)
		self.only_source_left()
		shutil.rmtree(source)

	def test_config(self):
		for change, code, mention in (
		    ({"attention_bias": True}, 4, "attention_bias"), ({"mlp_bias": True}, 4, "mlp_bias"),
		    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 4, "rope_scaling"),
		    ({"rope_parameters": {"rope_type": "yarn"}}, 4, "rope_parameters"),
		    ({"model_type": "gpt_neo"}, 4, "gpt_neo"), ({"hidden_act": "gelu"}, 4, "hidden_act"),
		    ({"quantization_config": {"bits": 4}}, 4, "quantization_config"),
		    ({"partial_rotary_factor": 0.5}, 4, "partial_rotary_factor"),
		    ({"hidden_size": 0}, 3, "hidden_size"), ({"hidden_size": "40"}, 3, "hidden_size"),
		    ({"num_key_value_heads": 3}, 3, "num_key_value_heads"),
		    ({"num_hidden_layers": 10 ** 9}, 3, "num_hidden_layers"),
		    ({"rms_norm_eps": -1}, 3, "rms_norm_eps"), ({"vocab_size": 71}, 3, "[70, 40]"),
		    ({"num_hidden_layers": 3}, 3, "model.layers.2.input_layernorm.weight")):
			with self.subTest(change=change):
				self.refuse(code, mention, config=dict(CONFIG, **change))

	def test_tensors(self):
		name = "model.layers.1.self_attn.k_proj.weight"
		good = small_tensors()
		self.refuse(3, name, {k: v for k, v in good.items() if k != name})
		self.refuse(3, name, dict(good, **{name: ("BF16", [40, 24], good[name][2])}))
		self.refuse(4, "F64", dict(good, **{name: ("F64", [24, 40], bytes(24 * 40 * 8))}))
		for bits, word in ((0x7fc0, "NaN"), (0xff80, "infinite")):
			broken = bytearray(good[name][2])
			struct.pack_into("<H", broken, 2 * 77, bits)
			self.refuse(3, f"{name}: value 77 is {word}", dict(good, **{name: ("BF16", [24, 40], bytes(broken))}))

	def test_too_large_values(self):
		name = "model.layers.0.mlp.up_proj.weight"
		tensors = small_tensors()
		values = to_f32(tensors[name]).copy()
		values[3, 4] = 1e30
		tensors[name] = ("BF16", [75, 40], encode(values, "BF16"))
		source = self.source(tensors)
		for scheme in ("f16", "rtn:bits=4", "rtn:bits=4,zero=sym", "rtn:bits=8,zero=real,search=0"):
			_, err = self.pith("convert", source, "-o", self.dir / "out.pith", "-s", scheme, code=1)
			self.assertIn(name, err)
			self.only_source_left()
		self.convert(source, "-s", "rtn:bits=4", "-r", "layers.0.mlp.up=bf16")

	def test_extra_tensors_are_named(self):
		tensors = small_tensors()
		tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [6], bytes(24))
		source = self.source(tensors)
		_, err = self.pith("convert", source, "--dry-run")
		self.assertNotIn("inv_freq", err)
		tensors["visual.patch.weight"] = ("I64", [1], bytes(8))
		shutil.rmtree(source)
		_, err = self.pith("convert", self.source(tensors), "--dry-run")
		self.assertIn("visual.patch.weight", err)

	def test_headers(self):
		good = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
		cases = [
		    ("cut", good[:-3], 3), ("array", "[1]", 3), ("empty", "", 3), ("nul", "\0" * 16, 3),
		    ("twice", good[:-1] + ", " + good[1:], 3),
		    ("shape", good.replace("[2]", "[3]"), 3), ("negative", good.replace("[2]", "[-2]"), 3),
		    ("product", good.replace("[2]", "[4294967296, 4294967296, 4294967296]"), 3),
		    ("bytes", good.replace("[2]", "[4611686018427387904]"), 3),
		    ("huge integer", good.replace("[2]", "[99999999999999999999999]"), 3),
		    ("range", good.replace("[0, 8]", "[0, 800]"), 3),
		    ("backwards", good.replace("[0, 8]", "[8, 0]"), 3),
		    ("hole", good.replace("[2]", "[1]").replace("[0, 8]", "[4, 8]"), 3),
		    ("overlap", json.dumps({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
		                            for n in "ab"}), 3),
		    ("tail", good.replace("[2]", "[1]").replace("[0, 8]", "[0, 4]"), 3),
		    ("no shape", good.replace("shape", "form"), 3),
		    ("no offsets", good.replace("data_offsets", "at"), 3),
		    ("deep", "[" * 100000, 1), ("wide", '{"a": [' + "0," * 1100000 + "0]}", 1),
		]
		source = self.source()
		for name, header, code in cases:
			with self.subTest(case=name):
				write_safetensors(source / "model.safetensors", {"x": ("F32", [2], bytes(8))},
				                  header=header.encode())
				self.pith("convert", source, "-o", self.dir / "out.pith", code=code)
				self.only_source_left()

	def test_lengths_and_truncation(self):
		source = self.source()
		path = source / "model.safetensors"
		whole = path.read_bytes()
		size = struct.unpack_from("<Q", whole)[0]
		for cut in (0, 1, 7, 8, 9, 10, 100, 7 + size, 8 + size, len(whole) // 2, len(whole) - 1):
			path.write_bytes(whole[:cut])
			self.pith("convert", source, "-o", self.dir / "out.pith", code=3)
		for length in (0, 1, len(whole), 2 ** 63, 2 ** 64 - 1, 2 ** 64 - 8):
			path.write_bytes(struct.pack("<Q", length) + whole[8:])
			self.pith("convert", source, "-o", self.dir / "out.pith", code=3)
		with open(path, "wb") as f:  # sparse: a header longer than the limit that fits the file
			f.write(struct.pack("<Q", 200 << 20))
			f.truncate(300 << 20)
		self.pith("convert", source, "-o", self.dir / "out.pith", code=1)
		path.unlink()
		self.only_source_left()

	def test_other_inputs(self):
		for name, data, mention in (("m.gguf", b"GGUF" + bytes(60), "GGUF"),
		                            ("m.bin", b"PK\3\4" + bytes(60), "PyTorch"),
		                            ("m.pith", bytes.fromhex("895054480d0a1a0a") + bytes(60), "Pith"),
		                            ("m.txt", b"hello, world", "supported")):
			(self.dir / name).write_bytes(data)
			_, err = self.pith("convert", self.dir / name, "-o", self.dir / "out.pith", code=4)
			self.assertIn(mention, err)
		empty = self.dir / "empty"
		empty.mkdir()
		_, err = self.pith("convert", empty, "--dry-run", code=4)
		self.assertIn("config.json", err)
		write_safetensors(empty / "model.safetensors", small_tensors())
		_, err = self.pith("convert", empty, "--dry-run", code=4)
		self.assertIn("config.json", err)
		self.pith("convert", self.dir / "nothing", "--dry-run", code=1)

	def test_deep_config(self):
		source = self.source()
		(source / "config.json").write_text('{"a":' * 5000 + "1" + "}" * 5000)
		self.pith("convert", source, "--dry-run", code=1)


class Export(Case):
	def test_quantized_is_decoded(self):
		tensors = small_tensors("F16")
		out, _ = self.convert(self.source(tensors), "-s", "rtn:bits=6,group=32")
		back = self.dir / "back"
		stdout, err = self.pith("export", out, "-o", back, "--json")
		result = json.loads(stdout)
		self.assertEqual((result["decoded"], result["exact"]), (16, 5))
		self.assertIn("quantized", err)
		file = self.open(out)
		for name, (dtype, shape, data) in read_safetensors(back / "model.safetensors").items():
			want = file.unpack(file.find(name)).reshape(shape)
			self.assertEqual(data, encode(want, "F16"), name)
			self.assertEqual(dtype, "F16")

	def test_target(self):
		out, _ = self.convert(self.source())
		(self.dir / "there").mkdir()
		self.pith("export", out, "-o", self.dir / "there", code=1)
		self.pith("export", out, code=2)
		self.pith("export", out, "-o", self.dir / "x", "--to", "gguf", code=4)
		self.pith("export", out, "-o", self.dir / "x", "--to", "zip", code=2)
		self.pith("export", out, "-o", self.dir / "none" / "x", code=1)
		self.pith("export", self.dir / "src" / "config.json", "-o", self.dir / "x", code=4)
		self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["out.pith", "src", "there"])

	def test_damage_is_found(self):
		out, _ = self.convert(self.source())
		whole = bytearray(out.read_bytes())
		plane = self.open(out).bind(self.open(out).find("lm_head.weight"))[0][0].stored[0]
		whole[plane.off + 5] ^= 1
		out.write_bytes(whole)
		_, err = self.pith("export", out, "-o", self.dir / "back", code=3)
		self.assertIn("lm_head.weight", err)
		self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["out.pith", "src"])
		self.pith("export", out, "-o", self.dir / "back", "--no-verify")


if __name__ == "__main__":
	unittest.main(verbosity=2)

#!/usr/bin/python3
# loader/python against the vectors and, for dense weights, against torch where it is installed.
#
# Runs from the root of the tree; BUILD names the folder of libpith.so.
#
# SPDX-License-Identifier: Apache-2.0

import ctypes
import gc
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / os.environ.get("BUILD", "build")
sys.path[:0] = [str(HERE), str(ROOT / "loader" / "python")]
os.environ.setdefault("PITH_LIBRARY", str(BUILD / "libpith.so"))
if os.environ.get("PITH_SANITIZED"):
	print("skip: an interpreter without sanitizers cannot load a library with them")
	sys.exit(77)

import pith
import unit_summary
from pith import _dlpack
from vector_files import vector_files

try:
	import torch
except ImportError:
	torch = None

VECTORS = {v.name[:-4]: v for v in vector_files()}


def mapped(path):
	"""true while this process has 'path' in its memory map."""
	return str(path) in pathlib.Path("/proc/self/maps").read_text()


class Package(unittest.TestCase):
	def setUp(self):
		self.folder = tempfile.TemporaryDirectory()
		self.addCleanup(self.folder.cleanup)

	def path(self, name):
		path = pathlib.Path(self.folder.name) / (name.replace("/", "-") + ".pith")
		path.write_bytes(VECTORS[name].data)
		return path

	def open(self, name, **options):
		return pith.open(self.path(name), **options)

	def test_good_vectors(self):
		"""Every weight of every good vector unpacks to the expected bits, whole and by rows."""
		for name, vector in VECTORS.items():
			if vector.status != "good":
				continue
			with self.subTest(name), self.open(name) as model:
				self.assertEqual([], model.verify(threads=1))
				expected = vector.expected()
				self.assertEqual(sorted(expected), model.names())
				for key, rows in expected.items():
					weight = model[key]
					self.assertEqual(rows, weight.unpack_rows().view(np.uint32).tolist())
					self.assertEqual(rows[-1:], weight.unpack_rows(weight.m - 1, 1).view(np.uint32).tolist())
					self.assertEqual(weight.shape, weight.float32().shape)

	def test_views(self):
		"""f32, f16 and bf16 views have the stored bits, the map's address and no copy."""
		for kind, dtype in (("f32", np.float32), ("f16", np.float16), ("bf16", np.uint16)):
			with self.subTest(kind), self.open(f"dense/good-{kind}") as model:
				weight = model["matrix"]
				view = weight.numpy()
				self.assertEqual((kind, dtype, (5, 7)), (weight.dtype, view.dtype, view.shape))
				self.assertFalse(view.flags.owndata)
				self.assertEqual(view.ctypes.data, weight.numpy().ctypes.data)
				wide = (view.astype(np.uint32) << 16).view(np.float32) if kind == "bf16" else view.astype(np.float32)
				self.assertEqual(VECTORS[f"dense/good-{kind}"].expected()["matrix"], wide.view(np.uint32).tolist())
				self.assertEqual((19,), model["vector"].numpy().shape)

	def test_view_is_read_only(self):
		view = self.open("dense/good-f32")["matrix"].numpy()
		with self.assertRaises(ValueError):
			view[0, 0] = 1
		with self.assertRaises(ValueError):
			view.flags.writeable = True

	def test_view_keeps_the_file(self):
		"""The map lives as long as a view, a slice of it or a DLPack tensor, and no longer."""
		path = self.path("dense/good-f32")
		takers = {"view": lambda w: w.numpy(), "slice": lambda w: w.numpy()[1:, 2:], "dlpack": np.from_dlpack}
		for name, take in takers.items():
			with self.subTest(name):
				with pith.open(path) as model:
					taken = take(model["matrix"])
					copy = np.array(taken)
				del model
				gc.collect()
				self.assertTrue(mapped(path))
				self.assertTrue((taken == copy).all())
				del taken
				gc.collect()
				self.assertFalse(mapped(path))

	def test_other_kinds_have_no_view(self):
		with self.open("sums/good-four-terms") as model:
			weight = model["w"]
			self.assertEqual(["dense", "affine", "sparse", "columns"], weight.kinds)
			self.assertIsNone(weight.dtype)
			self.assertRaises(TypeError, weight.numpy)
			self.assertRaises(BufferError, weight.__dlpack__)
			self.assertEqual(np.float32, np.asarray(weight).dtype)
			self.assertRaises(IndexError, weight.unpack_rows, 17, 2)

	def test_dlpack_numpy(self):
		for kind in ("f32", "f16"):
			with self.subTest(kind):
				weight = self.open(f"dense/good-{kind}")["tall"]
				array = np.from_dlpack(weight)
				self.assertEqual(weight.numpy().ctypes.data, array.ctypes.data)
				self.assertEqual(weight.numpy().tobytes(), array.tobytes())

	def test_dlpack_bf16(self):
		"""The capsule's struct, read back field by field, with and without a version."""
		weight = self.open("dense/good-bf16")["matrix"]
		for version, name in ((None, b"dltensor"), ((1, 0), b"dltensor_versioned")):
			capsule = weight.__dlpack__(max_version=version)
			get = ctypes.pythonapi.PyCapsule_GetPointer
			get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
			kind = _dlpack.ManagedVersioned if version else _dlpack.Managed
			managed = kind.from_address(get(capsule, name))
			t = managed.tensor
			self.assertEqual((1, 0, 2, 4, 16, 1, 0), (t.device_type, t.device_id, t.ndim, t.code, t.bits, t.lanes, t.byte_offset))
			self.assertEqual(([5, 7], [7, 1]), (t.shape[:2], t.strides[:2]))
			self.assertEqual(weight.numpy().ctypes.data, t.data)
			if version:
				self.assertEqual((1, _dlpack.READ_ONLY), (managed.major, managed.flags))
		live = len(_dlpack._live)
		del capsule, managed, t
		gc.collect()
		self.assertEqual(live - 1, len(_dlpack._live))

	@unittest.skipIf(torch is None, "torch is not installed (Debian: python3-torch)")
	def test_torch(self):
		for kind in ("f32", "f16", "bf16"):
			with self.subTest(kind):
				weight = self.open(f"dense/good-{kind}")["matrix"]
				tensor = torch.from_dlpack(weight)
				self.assertEqual(weight.numpy().ctypes.data, tensor.data_ptr())
				self.assertEqual(weight.float32().tolist(), tensor.float().tolist())

	def test_product(self):
		"""Somebody else's layer: NumPy multiplies with the map's own bytes."""
		weight = self.open("dense/good-f32")["matrix"]
		x = np.arange(7, dtype=np.float32)
		self.assertTrue(np.allclose(weight.numpy() @ x, weight.float32() @ x))

	def test_metadata(self):
		with self.open("container/good-full") as model:
			self.assertEqual({"arch": "plain", "hidden_size": 4, "name": "example", "rms_norm_eps": 1e-5}, model.arch)
			self.assertEqual([True, False], [b["has_attention"] for b in model.blocks])
			self.assertEqual(b"No rights reserved.\n", model.section("lic "))
			self.assertEqual(("source", "source", "model.safetensors", bytes(range(32))),
			                 tuple(model.lineage[0][k] for k in ("kind", "key", "value", "digest")))
			self.assertEqual((0.015625, 4.5), model.lineage[2]["number"])
			self.assertEqual((1, 2), (model.info["generation"], len(model)))
			self.assertIn("WGHT", model.sections)
			self.assertIn("matrix", model)
			self.assertNotIn("other", model)

	def test_errors(self):
		with self.assertRaises(pith.PithError) as caught:
			self.open("container/not-ours-magic")
		self.assertEqual("not ours", caught.exception.status)
		with self.assertRaises(pith.PithError) as caught:
			self.open("container/bad-file-root")
		self.assertEqual(("corrupt", "container.8"), (caught.exception.status, caught.exception.rule))
		with self.assertRaises(pith.PithError) as caught:
			pith.open("/nonexistent.pith")
		self.assertEqual("io", caught.exception.status)
		self.assertRaises(KeyError, self.open("dense/good-f32").find, "absent")

	def test_damage(self):
		"""A damaged plane is refused before its first use, unless the caller declines."""
		model = self.open("container/bad-plane-bytes")
		self.assertEqual(["container.16"], [fault.rule for fault in model.verify()])
		damaged = 0
		for name in model:
			try:
				model[name].numpy()
			except pith.PithError as error:
				self.assertEqual("container.16", error.rule)
				damaged += 1
		self.assertEqual(1, damaged)
		trusting = self.open("container/bad-plane-bytes", verify=False)
		self.assertEqual(2, sum(trusting[name].numpy() is not None for name in trusting))

	def test_closed(self):
		model = self.open("dense/good-f32")
		weight = model["matrix"]
		model.close()
		self.assertRaises(ValueError, model.names)
		self.assertEqual((5, 7), weight.numpy().shape)

	def test_no_library(self):
		"""A wrong PITH_LIBRARY is an ImportError that says what to do."""
		run = subprocess.run([sys.executable, "-c", "import pith"], capture_output=True, text=True,
		                     env=dict(os.environ, PITH_LIBRARY="/nonexistent.so", PYTHONPATH=str(ROOT / "loader" / "python")))
		self.assertEqual(1, run.returncode)
		self.assertIn("PITH_LIBRARY", run.stderr)


if __name__ == "__main__":
	unit_summary.main()

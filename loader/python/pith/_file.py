"""Files and weights.  See the package's docstring.

SPDX-License-Identifier: Apache-2.0
"""

import ctypes
import os
from ctypes import byref, c_size_t, c_uint32, c_void_p

import numpy as np

from . import _dlpack
from ._library import (ArchValue, BlockRecord, FaultCallback, FileInfo, LineageRecord, PithError, ProgressCallback,
                       SectionRecord, TermInfo, VerifyOptions, WeightRecord, error_of, library, take_malloced)

_DTYPES = {1: ("f32", np.dtype("<f4")), 2: ("f16", np.dtype("<f2")), 3: ("bf16", np.dtype("<u2"))}
_LINEAGE_KINDS = (None, "source", "recipe", "tool", "library", "calibration", "parent", "weight error", "note")
_NO_VERIFY = 1


class _Map:
	"""The open file of the library; closed when nothing refers to it any more."""

	def __init__(self, path, flags):
		handle = c_void_p()
		library.pith_file_open(os.fsencode(path), flags, byref(handle))
		self.handle = handle

	def __del__(self, close=library.pith_file_close):
		if getattr(self, "handle", None):
			close(self.handle)


def _string(address, nbytes):
	return ctypes.string_at(address, nbytes).decode("utf-8", "replace") if nbytes else ""


class Weight:
	"""One stored matrix: name, shape, m outputs, n inputs, and its bytes.

	dtype is "f32", "f16" or "bf16" for a weight of one dense term, else None.
	"""

	def __init__(self, owner, record, verify):
		self._map, self._record, self._verified = owner, record, not verify
		self.name = _string(record.name, record.name_nbytes)
		self.shape = tuple(record.dim[i] for i in range(record.rank))
		self.m, self.n = record.m, record.n
		self._address, self._dtype = None, None
		address, dtype = c_void_p(), c_uint32()
		try:
			library.pith_weight_dense(byref(record), byref(address), byref(dtype))
			self._address, self._dtype = address.value, dtype.value
		except PithError as error:
			if error.status != "unsupported":
				raise
		self.dtype = _DTYPES[self._dtype][0] if self._dtype else None

	def __repr__(self):
		return f"<pith.Weight {self.name!r} {list(self.shape)} {self.dtype or '+'.join(self.kinds)}>"

	@property
	def kinds(self):
		"""Names of the terms that are added up, for example ["affine", "sparse"]."""
		return [term["kind"] for term in self.terms()]

	def terms(self):
		"""A dictionary for every term: kind, parameters, stored bytes."""
		out = []
		for i in range(self._record.term_count):
			info = TermInfo()
			library.pith_weight_term_info(byref(self._record), i, byref(info))
			out.append({"kind": info.kind.decode(), "param": list(info.param), "nbytes": info.nbytes})
		return out

	def verify(self):
		"""Check the checksums of the planes; raises PithError."""
		library.pith_weight_verify(byref(self._record))
		self._verified = True

	def _ready(self):
		if not self._verified:
			self.verify()

	def numpy(self):
		"""A read-only view of a dense weight, no copy: f32 and f16 as such, bf16 as uint16.

		The view keeps the file mapped.  TypeError for any other kind: see unpack_rows().
		"""
		if self._address is None:
			raise TypeError(f"{self.name} is not one dense term but {' + '.join(self.kinds)}: use unpack_rows()")
		self._ready()
		dtype = _DTYPES[self._dtype][1]
		buffer = (ctypes.c_ubyte * (self.m * self.n * dtype.itemsize)).from_address(self._address)
		buffer._pith_map = self._map  # the view refers to the buffer, the buffer to the map
		return np.frombuffer(memoryview(buffer).toreadonly(), dtype).reshape(self.shape)

	def unpack_rows(self, row=0, count=None):
		"""Rows row .. row + count - 1 as f32 [count, n], of any kind: terms added, transforms undone."""
		count = self.m - row if count is None else count
		if row < 0 or count < 0 or row + count > self.m:
			raise IndexError(f"{self.name} has {self.m} rows")
		self._ready()
		out, scratch = np.empty((count, self.n), np.float32), np.empty(self.n, np.float32)
		pointer = ctypes.POINTER(ctypes.c_float)
		if count:
			library.pith_weight_unpack_rows(byref(self._record), row, count, out.ctypes.data_as(pointer),
			                                scratch.ctypes.data_as(pointer))
		return out

	def float32(self):
		"""The whole weight as a new f32 array of its shape."""
		return self.unpack_rows().reshape(self.shape)

	def __array__(self, dtype=None, copy=None):
		if self.dtype in ("f32", "f16"):
			array = self.numpy()
			if copy:
				array = array.copy()
		elif copy is False:
			raise ValueError(f"{self.name} cannot become an array without a copy")
		else:
			array = self.float32()
		return array if dtype is None else array.astype(dtype, copy=False)

	def __dlpack_device__(self):
		return _dlpack.CPU

	def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
		"""A DLPack capsule over a dense weight, without a copy; the memory is read-only."""
		if stream is not None or copy or dl_device not in (None, _dlpack.CPU):
			raise BufferError("only a view in CPU memory can be exported")
		if self._address is None:
			raise BufferError(f"{self.name} is not one dense term: use unpack_rows()")
		self._ready()
		return _dlpack.capsule(self._address, self._dtype, self.shape, self._map, max_version)


class File:
	"""An open .pith file: a mapping from names to weights.

	Close it, or use it in a with-block, to drop its map; views already handed out stay valid.
	"""

	def __init__(self, path, verify=True):
		self._open_map = _Map(path, 0 if verify else _NO_VERIFY)
		self._verify = verify
		self.path = os.fspath(path)

	@property
	def _map(self):
		if self._open_map is None:
			raise ValueError(f"{self.path} is closed")
		return self._open_map

	def close(self):
		"""Forget the map; it goes when the last weight and view of it are gone."""
		self._open_map = None

	def __enter__(self):
		return self

	def __exit__(self, *exception):
		self.close()

	@property
	def info(self):
		"""What the header says: generation, versions, sizes, counts, file_root, model_identity."""
		info = FileInfo()
		library.pith_file_info(self._map.handle, byref(info))
		return info.as_dict()

	def __len__(self):
		return self.info["weight_count"]

	def weight_at(self, i):
		"""Weight number i in the order of the table (by hash of the name)."""
		record = WeightRecord()
		library.pith_file_weight_at(self._map.handle, i, byref(record))
		return Weight(self._map, record, self._verify)

	def find(self, name):
		"""The weight of that name; PithNotFound (a KeyError) if there is none."""
		record = WeightRecord()
		library.pith_file_find(self._map.handle, name.encode(), byref(record))
		return Weight(self._map, record, self._verify)

	__getitem__ = find

	def __contains__(self, name):
		try:
			self.find(name)
		except KeyError:
			return False
		return True

	def __iter__(self):
		return iter(self.names())

	def names(self):
		"""All names, sorted."""
		return sorted(self.weight_at(i).name for i in range(len(self)))

	def items(self):
		return [(name, self.find(name)) for name in self.names()]

	@property
	def arch(self):
		"""The architecture's keys: str, int or float by key."""
		out, value = {}, ArchValue()
		for i in range(library.pith_file_arch_count(self._map.handle)):
			library.pith_file_arch_at(self._map.handle, i, byref(value))
			choices = {1: value.u64, 2: value.f64}
			out[value.key.decode()] = choices[value.type] if value.type in choices else _string(
				value.string, value.string_nbytes)
		return out

	@property
	def blocks(self):
		"""Shapes of the blocks, a dictionary each."""
		out = []
		for i in range(self.info["block_count"]):
			block = BlockRecord()
			library.pith_file_block(self._map.handle, i, byref(block))
			out.append(block.as_dict())
		return out

	@property
	def lineage(self):
		"""Where the model comes from: a dictionary for every record, in the order written."""
		out, entry = [], LineageRecord()
		for i in range(library.pith_file_lineage_count(self._map.handle)):
			library.pith_file_lineage_at(self._map.handle, i, byref(entry))
			kind = _LINEAGE_KINDS[entry.kind] if entry.kind < len(_LINEAGE_KINDS) else entry.kind
			out.append({"kind": kind, "weight": entry.weight - 1 if entry.weight else None,
			            "key": _string(entry.key, entry.key_nbytes), "value": _string(entry.value, entry.value_nbytes),
			            "number": tuple(entry.number), "digest": bytes(entry.digest)})
		return out

	@property
	def sections(self):
		"""{id: record} of the directory."""
		out = {}
		for i in range(library.pith_file_section_count(self._map.handle)):
			record = SectionRecord()
			library.pith_file_section_at(self._map.handle, i, byref(record))
			out[record.id.to_bytes(4, "little").decode("latin-1")] = record.as_dict()
		return out

	def section(self, name, limit=2 ** 30):
		"""Decoded bytes of a section, for example "lic " or "cfg "; at most 'limit' of them."""
		address, nbytes = c_void_p(), c_size_t()
		number = int.from_bytes(name.encode().ljust(4), "little")
		library.pith_file_section_read(self._map.handle, number, limit, byref(address), byref(nbytes))
		return take_malloced(address.value, nbytes.value)

	def verify(self, threads=0, progress=None):
		"""Check everything (spec/container.md section 8); the faults as a list of PithError, [] if none.

		progress(done, total), in bytes, is called now and then.
		"""
		faults = []
		on_fault = FaultCallback(lambda ctx, fault: faults.append(error_of(fault.contents)))
		on_progress = ProgressCallback((lambda ctx, done, total: progress(done, total)) if progress else 0)
		options = VerifyOptions(threads, on_fault, on_progress, None)
		try:
			library.pith_file_verify(self._map.handle, byref(options), None)
		except PithError as error:
			return faults or [error]
		return faults


def open(path, verify=True):
	"""Open a .pith file.  verify=False skips the checksums of weights when they are first used."""
	return File(path, verify)

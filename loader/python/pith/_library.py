"""libpith through ctypes: finding it, its structs, its errors.

The structs restate loader/pith.h field by field; tests/test_python_package.py would read
nonsense if the two differed.

SPDX-License-Identifier: Apache-2.0
"""

import ctypes
import ctypes.util
import os
import pathlib
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_float, c_int, c_size_t, c_uint, c_uint8
from ctypes import c_uint32, c_uint64, c_void_p

STATUS_NAMES = ("ok", "not ours", "unsupported", "corrupt", "limit", "memory", "io", "argument", "not found")
NOT_FOUND = 8
NO_OFF = 2 ** 64 - 1


class PithError(Exception):
	"""libpith refused.  status: its short name; rule: the broken rule of spec/, or ""; off: bytes
	from the start of the file, or None; the text says what, where and what to do."""

	def __init__(self, status, rule="", off=None, msg=""):
		super().__init__(msg or status)
		self.status, self.rule, self.off = status, rule, off


class PithNotFound(PithError, KeyError):
	"""The file has no such weight, key or section."""

	__str__ = PithError.__str__


class Struct(ctypes.Structure):
	"""Adds a dictionary of the fields; char arrays and u8 arrays as bytes."""

	def as_dict(self):
		out = {}
		for name, kind in self._fields_:
			value = getattr(self, name)
			out[name] = bytes(value) if isinstance(value, ctypes.Array) and kind._type_ is c_uint8 else value
		return out


class ErrorRecord(Struct):
	_fields_ = [("status", c_int), ("off", c_uint64), ("rule", c_char * 24), ("msg", c_char * 200)]


class FileInfo(Struct):
	_fields_ = [("generation", c_uint64), ("container_version", c_uint32), ("numerics_version", c_uint32),
	            ("incompatible", c_uint64), ("read_only_compatible", c_uint64), ("compatible", c_uint64),
	            ("file_nbytes", c_uint64), ("mapped_nbytes", c_uint64), ("file_root", c_uint8 * 16),
	            ("model_identity", c_uint8 * 16), ("weight_count", c_uint64), ("term_count", c_uint64),
	            ("plane_count", c_uint64), ("block_count", c_uint64), ("tensor_align", c_uint32), ("flags", c_uint)]


class SectionRecord(Struct):
	_fields_ = [("id", c_uint32), ("encoding", c_uint32), ("flags", c_uint32), ("entry_nbytes", c_uint32),
	            ("off", c_uint64), ("nbytes", c_uint64), ("raw_nbytes", c_uint64), ("xxh3", c_uint64)]


class ArchValue(Struct):
	_fields_ = [("key", c_char * 32), ("type", c_uint32), ("flags", c_uint32), ("u64", c_uint64), ("f64", c_double),
	            ("string", c_void_p), ("string_nbytes", c_uint64)]


class BlockRecord(Struct):
	_fields_ = [(name, c_uint32) for name in
	            ("head_count", "kv_head_count", "head_dim", "ffn_count", "attention_of", "ffn_of", "window",
	             "attention_const", "ffn_const")] + [("has_attention", ctypes.c_bool), ("has_ffn", ctypes.c_bool)]


class WeightRecord(Struct):
	_fields_ = [("file", c_void_p), ("index", c_size_t), ("name", c_void_p), ("name_nbytes", c_size_t),
	            ("rank", c_uint32), ("dim", c_uint64 * 4), ("m", c_size_t), ("n", c_size_t),
	            ("term_count", c_uint32), ("transform_count", c_uint32), ("activation", c_uint32),
	            ("source_dtype", c_uint32), ("flags", c_uint32), ("first_term", c_uint32), ("first_transform", c_uint32)]


class TermInfo(Struct):
	_fields_ = [("kind", c_char_p), ("kind_id", c_uint32), ("plane_count", c_uint32), ("param", c_uint32 * 24),
	            ("nbytes", c_uint64)]


class LineageRecord(Struct):
	_fields_ = [("kind", c_uint32), ("weight", c_uint32), ("key", c_void_p), ("value", c_void_p),
	            ("key_nbytes", c_size_t), ("value_nbytes", c_size_t), ("number", c_double * 2), ("digest", c_uint8 * 32)]


FaultCallback = ctypes.CFUNCTYPE(None, c_void_p, POINTER(ErrorRecord))
ProgressCallback = ctypes.CFUNCTYPE(None, c_void_p, c_uint64, c_uint64)


class VerifyOptions(Struct):
	_fields_ = [("threads", c_uint), ("fault", FaultCallback), ("progress", ProgressCallback), ("ctx", c_void_p)]


def _find_library():
	named = os.environ.get("PITH_LIBRARY")
	if named:
		return [named]
	beside = sorted(pathlib.Path(__file__).resolve().parent.glob("libpith.so*"))
	return [str(p) for p in beside] + ["libpith.so.0", ctypes.util.find_library("pith")]


def _load():
	tried = []
	for name in _find_library():
		if not name:
			continue
		try:
			return ctypes.CDLL(name)
		except OSError as error:
			tried.append(str(error))
	raise ImportError("libpith was not found; install it or name it in PITH_LIBRARY: " + "; ".join(tried))


_FALLIBLE = {  # name: arguments before the struct pith_error
	"pith_file_open": [c_char_p, c_uint, POINTER(c_void_p)],
	"pith_file_section_at": [c_void_p, c_size_t, POINTER(SectionRecord)],
	"pith_file_section_read": [c_void_p, c_uint32, c_size_t, POINTER(c_void_p), POINTER(c_size_t)],
	"pith_file_arch_at": [c_void_p, c_size_t, POINTER(ArchValue)],
	"pith_file_block": [c_void_p, c_size_t, POINTER(BlockRecord)],
	"pith_file_weight_at": [c_void_p, c_size_t, POINTER(WeightRecord)],
	"pith_file_find": [c_void_p, c_char_p, POINTER(WeightRecord)],
	"pith_weight_term_info": [POINTER(WeightRecord), c_size_t, POINTER(TermInfo)],
	"pith_weight_dense": [POINTER(WeightRecord), POINTER(c_void_p), POINTER(c_uint32)],
	"pith_weight_verify": [POINTER(WeightRecord)],
	"pith_weight_unpack_rows": [POINTER(WeightRecord), c_size_t, c_size_t, POINTER(c_float), POINTER(c_float)],
	"pith_file_lineage_at": [c_void_p, c_size_t, POINTER(LineageRecord)],
	"pith_file_verify": [c_void_p, POINTER(VerifyOptions), POINTER(c_size_t)],
}
_COUNTS = ("pith_file_section_count", "pith_file_arch_count", "pith_file_lineage_count")


class Library:
	"""The functions of libpith as attributes; fallible ones raise PithError."""

	def __init__(self):
		self._cdll = _load()
		for name in _COUNTS:
			self._bind(name, [c_void_p], c_size_t)
		self._bind("pith_file_close", [c_void_p], None)
		self._bind("pith_file_info", [c_void_p, POINTER(FileInfo)], None)
		self._bind("pith_version", [], c_char_p)
		for name, arguments in _FALLIBLE.items():
			function = getattr(self._cdll, name)
			function.argtypes, function.restype = arguments + [POINTER(ErrorRecord)], c_int
			setattr(self, name, self._raising(function))

	def _bind(self, name, arguments, result):
		function = getattr(self._cdll, name)
		function.argtypes, function.restype = arguments, result
		setattr(self, name, function)

	@staticmethod
	def _raising(function):
		def call(*arguments):
			record = ErrorRecord()
			if function(*arguments, byref(record)) != 0:
				raise error_of(record)
		return call


def error_of(record):
	"""The exception of a struct pith_error."""
	status = STATUS_NAMES[record.status] if 0 <= record.status < len(STATUS_NAMES) else str(record.status)
	kind = PithNotFound if record.status == NOT_FOUND else PithError
	off = None if record.off == NO_OFF else record.off
	return kind(status, record.rule.decode(), off, record.msg.decode("utf-8", "replace"))


library = Library()

_free = ctypes.CDLL(None).free
_free.argtypes, _free.restype = [c_void_p], None


def take_malloced(address, nbytes):
	"""Copy and free what a library function allocated."""
	try:
		return ctypes.string_at(address, nbytes)
	finally:
		_free(address)


def library_version():
	"""Version of libpith, for example "0.1.0"."""
	return library.pith_version().decode()

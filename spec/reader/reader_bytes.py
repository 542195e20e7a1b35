# The outermost layer of the spec's second reader: faults, hashes, zstd, fixed-width fields.
#
# The reader follows the prose of spec/ and nothing else; it shares no code with the C
# libraries and is used only by tests.  xxHash and zstd are reached with ctypes, so Python 3
# and NumPy are all it needs.
#
# SPDX-License-Identifier: Apache-2.0

import ctypes
import ctypes.util


class Fault(Exception):
	"""A broken rule of spec/.  status is 'corrupt', 'unsupported' or 'not-ours'."""

	def __init__(self, rule, msg, off=None, status="corrupt"):
		super().__init__(f"{status}: {rule}: {msg}" + ("" if off is None else f" (at byte {off})"))
		self.rule, self.msg, self.off, self.status = rule, msg, off, status


def unsupported(rule, msg, off=None):
	return Fault(rule, msg, off, "unsupported")


def need(condition, rule, msg, off=None):
	"""Raise the fault of 'rule' unless 'condition' holds."""
	if not condition:
		raise Fault(rule, msg, off)


def _load(name, soname):
	for candidate in (soname, ctypes.util.find_library(name)):
		if candidate:
			try:
				return ctypes.CDLL(candidate)
			except OSError:
				pass
	raise ImportError(f"{soname} is not installed")


class _Hash128(ctypes.Structure):
	_fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_xxhash = _load("xxhash", "libxxhash.so.0")
_xxhash.XXH3_64bits.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_xxhash.XXH3_64bits.restype = ctypes.c_uint64
_xxhash.XXH3_128bits.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_xxhash.XXH3_128bits.restype = _Hash128


def _pointer(data):
	# c_char_p keeps 'data' alive for the call, zero bytes inside it are no concern of the callee.
	return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)


def xxh3_64(data):
	"""XXH3-64, seed 0, default secret."""
	data = bytes(data)
	return _xxhash.XXH3_64bits(_pointer(data), len(data))


def xxh3_128(data):
	"""XXH3-128 in its canonical form: 16 bytes, most significant first."""
	data = bytes(data)
	h = _xxhash.XXH3_128bits(_pointer(data), len(data))
	return h.high.to_bytes(8, "big") + h.low.to_bytes(8, "big")


def zstd_decompress(data, raw_nbytes, limit=2 ** 30):
	"""
	The raw bytes of exactly one zstd frame that gives raw_nbytes as its content size; None for
	anything else.
	"""
	zstd = _load("zstd", "libzstd.so.1")
	size, address = ctypes.c_size_t, ctypes.c_void_p
	zstd.ZSTD_decompress.argtypes, zstd.ZSTD_decompress.restype = [address, size, address, size], size
	zstd.ZSTD_findFrameCompressedSize.argtypes = [address, size]
	zstd.ZSTD_findFrameCompressedSize.restype = size
	zstd.ZSTD_getFrameContentSize.argtypes = [address, size]
	zstd.ZSTD_getFrameContentSize.restype = ctypes.c_uint64
	data = bytes(data)
	if (raw_nbytes > limit or zstd.ZSTD_getFrameContentSize(_pointer(data), len(data)) != raw_nbytes
	    or zstd.ZSTD_findFrameCompressedSize(_pointer(data), len(data)) != len(data)):
		return None
	out = ctypes.create_string_buffer(max(raw_nbytes, 1))
	got = zstd.ZSTD_decompress(out, raw_nbytes, _pointer(data), len(data))
	return out.raw[:raw_nbytes] if got == raw_nbytes else None


def u32(data, off):
	return int.from_bytes(data[off:off + 4], "little")


def u64(data, off):
	return int.from_bytes(data[off:off + 8], "little")


def round_up(value, unit):
	return (value + unit - 1) // unit * unit


def ceil_div(value, unit):
	return (value + unit - 1) // unit

"""DLPack capsules made by ctypes: NumPy exports neither read-only arrays nor bf16.

A capsule owns a DLManagedTensor; as long as the consumer has not called its deleter, the
entry in _live keeps the struct and the mapped file alive.

SPDX-License-Identifier: Apache-2.0
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

CPU = (1, 0)  # kDLCPU, device 0
TYPES = {1: (2, 32), 2: (2, 16), 3: (4, 16)}  # dtype id -> kDLFloat or kDLBfloat, bits
READ_ONLY = 1


class Tensor(ctypes.Structure):
	_fields_ = [("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
	            ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16), ("shape", POINTER(c_int64)),
	            ("strides", POINTER(c_int64)), ("byte_offset", c_uint64)]


Deleter = ctypes.CFUNCTYPE(None, c_void_p)


class Managed(ctypes.Structure):
	_fields_ = [("tensor", Tensor), ("manager_ctx", c_void_p), ("deleter", Deleter)]


class ManagedVersioned(ctypes.Structure):
	_fields_ = [("major", c_uint32), ("minor", c_uint32), ("manager_ctx", c_void_p), ("deleter", Deleter),
	            ("flags", c_uint64), ("tensor", Tensor)]


_live = {}  # address of a managed tensor -> what it needs


@Deleter
def _delete(address):
	_live.pop(address, None)


_prototype = ctypes.PYFUNCTYPE
_capsule_new = _prototype(ctypes.py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", ctypes.pythonapi))
_is_valid = _prototype(ctypes.c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_get_pointer = _prototype(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_NAMES = (b"dltensor", b"dltensor_versioned")  # static: a capsule borrows its name


@_prototype(None, c_void_p)
def _destroy(capsule):
	"""A capsule that nobody consumed still has its first name."""
	for name in _NAMES:
		if _is_valid(capsule, name):
			_live.pop(_get_pointer(capsule, name), None)


def capsule(address, dtype, shape, owner, max_version=None):
	"""A capsule over [*shape] of 'dtype' at 'address'; 'owner' is kept until it is deleted."""
	code, bits = TYPES[dtype]
	dims = (c_int64 * len(shape))(*shape)
	strides = (c_int64 * len(shape))()
	step = 1
	for i in range(len(shape) - 1, -1, -1):
		strides[i], step = step, step * shape[i]
	tensor = Tensor(address, CPU[0], CPU[1], len(shape), code, bits, 1, dims, strides, 0)
	versioned = max_version is not None and max_version[0] >= 1
	if versioned:
		managed = ManagedVersioned(1, 0, None, _delete, READ_ONLY, tensor)
	else:
		managed = Managed(tensor, None, _delete)
	key = ctypes.addressof(managed)
	_live[key] = (managed, dims, strides, owner)
	return _capsule_new(key, _NAMES[versioned], ctypes.cast(_destroy, c_void_p))

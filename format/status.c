/*
 * Filling of the error record.  Owns the wording of status names only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "pith_status.h"

#include <stdarg.h>
#include <stdio.h>

pith_status pith_fail(struct pith_error *err, pith_status status, uint64_t off, const char *rule,
                      const char *fmt, ...)
{
	if (err == NULL)
		return status;
	err->status = status;
	err->off = off;
	snprintf(err->rule, sizeof(err->rule), "%s", rule != NULL ? rule : "");
	va_list args;
	va_start(args, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, args);
	va_end(args);
	return status;
}

const char *pith_status_name(pith_status status)
{
	switch (status) {
	case PITH_OK: return "ok";
	case PITH_E_NOT_OURS: return "not ours";
	case PITH_E_UNSUPPORTED: return "unsupported";
	case PITH_E_CORRUPT: return "corrupt";
	case PITH_E_LIMIT: return "limit";
	case PITH_E_MEMORY: return "out of memory";
	case PITH_E_IO: return "input/output";
	case PITH_E_ARGUMENT: return "bad argument";
	case PITH_E_NOT_FOUND: return "not found";
	}
	return "unknown status";
}

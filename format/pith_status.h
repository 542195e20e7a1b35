/*
 * Status codes and the error record that every fallible function of Pith uses.
 *
 * A function returns PITH_OK (0) or one of the codes below; results travel
 * through out-parameters, which are NULL or 0 unless PITH_OK was returned.  The
 * optional 'struct pith_error' says where and why; it is filled exactly once, at
 * the place that found the fault, and passed through unchanged by every caller.
 * No global state; thread-safe as long as two threads do not share one record.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_STATUS_H
#define PITH_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pith_status {
	PITH_OK = 0,
	PITH_E_NOT_OURS,    /* the magic is not that of the format asked for */
	PITH_E_UNSUPPORTED, /* valid, but needs a newer reader or a missing model: named in msg */
	PITH_E_CORRUPT,     /* breaks a numbered rule of spec/: named in 'rule' */
	PITH_E_LIMIT,       /* valid, but exceeds a limit the caller set */
	PITH_E_MEMORY,      /* an allocation failed */
	PITH_E_IO,          /* the operating system refused: errno text in msg */
	PITH_E_ARGUMENT,    /* the caller broke the contract in the header */
	PITH_E_NOT_FOUND    /* no such name; nothing is wrong with the file */
} pith_status;

/* What went wrong: filled once where the fault is found. */
struct pith_error {
	pith_status status;
	uint64_t off;   /* bytes from the start of the file (or input), or UINT64_MAX: nowhere */
	char rule[24];  /* rule of spec/ that is broken, e.g. "affine.3", or "" */
	char msg[200];  /* one sentence: what, where and what to do; UTF-8, no newline */
};

/* Offset value for faults that are not at a place in a file. */
#define PITH_NO_OFF UINT64_MAX

/*
 * Fill 'err' (may be NULL) and return 'status'.  'rule' may be NULL or "".
 * Long messages are cut at 199 bytes.  Printf rules apply to 'fmt'.
 */
pith_status pith_fail(struct pith_error *err, pith_status status, uint64_t off,
                      const char *rule, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 5, 6)))
#endif
    ;

/* Short English name of a status: "corrupt", "unsupported", ...  Never NULL. */
const char *pith_status_name(pith_status status);

#ifdef __cplusplus
}
#endif
#endif

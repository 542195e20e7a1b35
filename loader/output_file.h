/*
 * A file that appears whole or not at all: written to a temporary name beside the
 * target, synced, renamed.  Buffered, sequential, with its offset known.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_LOADER_OUTPUT_FILE_H
#define PITH_LOADER_OUTPUT_FILE_H

#include "bytes.h"

struct pith_output;

/* PITH_E_IO with the text of 'errnum': "cannot WHAT PATH: TEXT". */
pith_status pith_fail_errno(struct pith_error *err, uint64_t off, const char *what,
                            const char *path, int errnum);

/* Create ".NAME.tmp.PID" in the folder of 'path'.  PITH_E_IO, PITH_E_MEMORY. */
pith_status pith_output_new(const char *path, struct pith_output **out, struct pith_error *err);
/* Append; a failure is remembered and every later call fails. */
pith_status pith_output_write(struct pith_output *o, const void *data, size_t nbytes,
                              struct pith_error *err);
/* Append zeros up to a multiple of 'align'. */
pith_status pith_output_align(struct pith_output *o, size_t align, struct pith_error *err);
uint64_t pith_output_off(const struct pith_output *o);
/* The name it is written under until commit; borrowed. */
const char *pith_output_temporary(const struct pith_output *o);
/* Write out the buffer and sync the data to the device. */
pith_status pith_output_sync(struct pith_output *o, struct pith_error *err);
/* Overwrite bytes that were written; the buffer must be synced. */
pith_status pith_output_rewrite(struct pith_output *o, uint64_t off, const void *data,
                                size_t nbytes, struct pith_error *err);
/* Rename over the target, sync the folder and free; on failure the temporary file is removed. */
pith_status pith_output_commit(struct pith_output *o, struct pith_error *err);
/* Remove the temporary file and free.  Accepts NULL. */
void pith_output_abort(struct pith_output *o);

/* Write all of it at 'off', as often as the system takes it in parts.  0 or errno. */
int pith_write_at(int fd, const void *data, size_t nbytes, uint64_t off);

#endif

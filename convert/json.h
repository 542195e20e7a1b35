/*
 * JSON for converters: jansson behind limits, and typed look-ups that fail with
 * the key's name.  The text is hostile: size, nesting and the number of values are
 * checked before the parser allocates anything.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CONVERT_JSON_H
#define PITH_CONVERT_JSON_H

#include "pith_status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JDOC_MAX_NBYTES ((size_t)100 << 20)
#define JDOC_MAX_DEPTH 64u
#define JDOC_MAX_VALUES ((size_t)1 << 20) /* bounds the parser's memory at some 200 MiB */

/*
 * Parse an object.  'what' names the text in messages.  PITH_E_CORRUPT (not JSON, not
 * an object, a key twice), PITH_E_LIMIT.  Free *out with json_decref().
 */
pith_status jdoc_parse(const char *text, size_t nbytes, const char *what, json_t **out,
                       struct pith_error *err);

/*
 * Read a whole regular file of at most 'limit' bytes into memory that the caller frees; a
 * NUL is put behind the last byte.  PITH_E_NOT_FOUND when there is none, PITH_E_LIMIT, PITH_E_IO.
 */
pith_status text_file_read(const char *path, size_t limit, char **data, size_t *nbytes,
                           struct pith_error *err);

/*
 * Typed members.  *present (may be NULL) says whether the key is there and not null; if it is not,
 * *out keeps its value.  PITH_E_CORRUPT for another type or a value outside [low, high].
 */
pith_status jdoc_u64(const json_t *object, const char *key, uint64_t low, uint64_t high,
                     uint64_t *out, bool *present, struct pith_error *err);
pith_status jdoc_f64(const json_t *object, const char *key, double low, double high, double *out,
                     bool *present, struct pith_error *err);
pith_status jdoc_bool(const json_t *object, const char *key, bool *out, bool *present,
                      struct pith_error *err);
/* *out is borrowed from the object. */
pith_status jdoc_string(const json_t *object, const char *key, const char **out, bool *present,
                        struct pith_error *err);

#endif

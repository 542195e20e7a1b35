/*
 * Varints and the record of a member as bytes: spec/text_archive.md, section 5.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_RECORD_H
#define PITH_TEXT_ARCHIVE_RECORD_H

#include "text.h"

#define ARCHIVE_MAX_NAME_NBYTES 4095u
#define ARCHIVE_MAX_OWNER_NBYTES 255u
#define ARCHIVE_LEAST_RECORD_NBYTES 6u

/* Bytes that grow; zero-initialise, free() 'data'. */
struct record_bytes {
	uint8_t *data;
	size_t nbytes, cap;
};
pith_status record_put_bytes(struct record_bytes *out, const void *data, size_t nbytes,
                             struct pith_error *err);
pith_status record_put_varint(struct record_bytes *out, uint64_t v, struct pith_error *err);
pith_status record_put_member(struct record_bytes *out, const struct pith_archive_member *m,
                              struct pith_error *err);

/* What is left to read. */
struct record_cursor {
	const uint8_t *p, *end;
};
/* False when the bytes end or it is no varint in shortest form. */
bool record_take_varint(struct record_cursor *in, uint64_t *v);
/* NULL when there are not as many. */
const uint8_t *record_take_bytes(struct record_cursor *in, uint64_t nbytes);

/* A record as read: strings are inside the bytes read, without NUL behind them. */
struct record_strings {
	const char *name, *target, *uname, *gname;
	size_t name_nbytes, target_nbytes, uname_nbytes, gname_nbytes;
};
/* Rules text.13 and text.15 ('rule' of a cut record is text.11 or text.21); i is for messages. */
pith_status record_take_member(struct record_cursor *in, const char *rule, size_t i,
                               struct pith_archive_member *m, struct record_strings *strings,
                               struct pith_error *err);

/* text.15: may this be a member's name? */
bool archive_name_is_valid(const char *name, size_t nbytes);
/* text.13 and text.15: can this be stored? */
bool archive_member_is_valid(const struct pith_archive_member *m);

#endif

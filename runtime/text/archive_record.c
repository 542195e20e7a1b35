/*
 * The record of a member as bytes.  Reading proves each field alone; what needs other members is the directory's.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_record.h"

#include "bytes.h"

#include <stdlib.h>

#define OWNER_BIT 8u
#define MAX_NSEC 999999999u

/* ---- writing ---- */

pith_status record_put_bytes(struct record_bytes *out, const void *data, size_t nbytes,
                             struct pith_error *err)
{
	if (nbytes > out->cap - out->nbytes) {
		size_t cap = 2 * (out->nbytes + nbytes) + 64;
		uint8_t *grown = realloc(out->data, cap);
		if (grown == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
		out->data = grown;
		out->cap = cap;
	}
	if (nbytes > 0)
		memcpy(out->data + out->nbytes, data, nbytes);
	out->nbytes += nbytes;
	return PITH_OK;
}

pith_status record_put_varint(struct record_bytes *out, uint64_t v, struct pith_error *err)
{
	uint8_t bytes[10];
	size_t n = 0;
	for (; v >= 128; v >>= 7)
		bytes[n++] = (uint8_t)(v & 127u) | 128u;
	bytes[n++] = (uint8_t)v;
	return record_put_bytes(out, bytes, n, err);
}

static pith_status put_string(struct record_bytes *out, const char *text, size_t nbytes,
                              struct pith_error *err)
{
	PITH_TRY(record_put_varint(out, nbytes, err));
	return record_put_bytes(out, text, nbytes, err);
}

static size_t length_of(const char *text) { return text != NULL ? strlen(text) : 0; }

/* spec text_archive.md 5: "s seconds since 1970 as 2 * s, or -2 * s - 1 before" */
static uint64_t fold_sign(int64_t s)
{
	uint64_t u = (uint64_t)s << 1;
	return s < 0 ? ~u : u;
}

static int64_t unfold_sign(uint64_t u)
{
	int64_t half = (int64_t)(u >> 1);
	return (u & 1u) != 0 ? -half - 1 : half;
}

static bool has_target(const struct pith_archive_member *m)
{
	return m->kind == PITH_MEMBER_LINK || m->kind == PITH_MEMBER_HARD_LINK;
}

pith_status record_put_member(struct record_bytes *out, const struct pith_archive_member *m,
                              struct pith_error *err)
{
	PITH_TRY(record_put_varint(out, (uint64_t)m->kind + (m->has_owner ? OWNER_BIT : 0), err));
	PITH_TRY(record_put_varint(out, m->mode, err));
	PITH_TRY(record_put_varint(out, fold_sign(m->mtime), err));
	PITH_TRY(record_put_varint(out, m->mtime_nsec, err));
	if (m->has_owner) {
		PITH_TRY(record_put_varint(out, m->uid, err));
		PITH_TRY(record_put_varint(out, m->gid, err));
		PITH_TRY(put_string(out, m->uname, length_of(m->uname), err));
		PITH_TRY(put_string(out, m->gname, length_of(m->gname), err));
	}
	PITH_TRY(put_string(out, m->name, m->name_nbytes, err));
	return has_target(m) ? put_string(out, m->target, m->target_nbytes, err) : PITH_OK;
}

/* ---- reading ---- */

bool record_take_varint(struct record_cursor *in, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; shift < 64 && in->p < in->end; shift += 7) {
		uint8_t byte = *in->p++;
		if ((shift == 63 && byte > 1) || (shift > 0 && byte == 0))
			return false;
		*v |= (uint64_t)(byte & 127u) << shift;
		if (byte < 128)
			return true;
	}
	return false;
}

const uint8_t *record_take_bytes(struct record_cursor *in, uint64_t nbytes)
{
	const uint8_t *p = in->p;
	if (nbytes > (uint64_t)(in->end - in->p))
		return NULL;
	in->p += nbytes;
	return p;
}

static bool take_string(struct record_cursor *in, size_t least, size_t most, const char **text, size_t *nbytes)
{
	uint64_t n;
	if (!record_take_varint(in, &n) || n < least || n > most)
		return false;
	*text = (const char *)record_take_bytes(in, n);
	*nbytes = (size_t)n;
	return *text != NULL && memchr(*text, 0, *nbytes) == NULL;
}

static bool take_u32(struct record_cursor *in, uint32_t most, uint32_t *v)
{
	uint64_t wide;
	if (!record_take_varint(in, &wide) || wide > most)
		return false;
	*v = (uint32_t)wide;
	return true;
}

static bool take_fields(struct record_cursor *in, struct pith_archive_member *m, struct record_strings *s)
{
	uint64_t kind, mtime;
	if (!record_take_varint(in, &kind) || kind > OWNER_BIT + PITH_MEMBER_HARD_LINK)
		return false;
	m->has_owner = kind >= OWNER_BIT;
	kind -= m->has_owner ? OWNER_BIT : 0;
	if (kind < PITH_MEMBER_FILE || kind > PITH_MEMBER_HARD_LINK)
		return false;
	m->kind = (enum pith_member_kind)kind;
	if (!take_u32(in, 07777, &m->mode) || !record_take_varint(in, &mtime) ||
	    !take_u32(in, MAX_NSEC, &m->mtime_nsec))
		return false;
	m->mtime = unfold_sign(mtime);
	if (m->has_owner &&
	    (!take_u32(in, UINT32_MAX, &m->uid) || !take_u32(in, UINT32_MAX, &m->gid) ||
	     !take_string(in, 0, ARCHIVE_MAX_OWNER_NBYTES, &s->uname, &s->uname_nbytes) ||
	     !take_string(in, 0, ARCHIVE_MAX_OWNER_NBYTES, &s->gname, &s->gname_nbytes)))
		return false;
	return take_string(in, 1, ARCHIVE_MAX_NAME_NBYTES, &s->name, &s->name_nbytes) &&
	       (!has_target(m) ||
	        take_string(in, 1, ARCHIVE_MAX_NAME_NBYTES, &s->target, &s->target_nbytes));
}

pith_status record_take_member(struct record_cursor *in, const char *rule, size_t i,
                               struct pith_archive_member *m, struct record_strings *strings,
                               struct pith_error *err)
{
	*m = (struct pith_archive_member){0};
	*strings = (struct record_strings){.target = "", .uname = "", .gname = ""};
	if (in->p == in->end)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, rule, "the record of member %zu is missing", i);
	// spec text.13: "Every field of a record is in range; no string has a NUL byte."
	if (!take_fields(in, m, strings))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.13",
		                 "a field of member %zu is out of range", i);
	// spec text.15: "A name is a relative path"
	if (!archive_name_is_valid(strings->name, strings->name_nbytes))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, "text.15",
		                 "the name of member %zu is not a relative path inside the archive", i);
	return PITH_OK;
}

/* ---- what may be stored ---- */

bool archive_name_is_valid(const char *name, size_t nbytes)
{
	// spec text.15: "components separated by single `/`, none empty, `.` or `..`"
	size_t begin = 0;
	if (nbytes < 1 || nbytes > ARCHIVE_MAX_NAME_NBYTES || memchr(name, 0, nbytes) != NULL)
		return false;
	for (size_t i = 0; i <= nbytes; i++) {
		if (i < nbytes && name[i] != '/')
			continue;
		size_t size = i - begin;
		if (size == 0 || (name[begin] == '.' && (size == 1 || (size == 2 && name[begin + 1] == '.'))))
			return false;
		begin = i + 1;
	}
	return true;
}

bool archive_member_is_valid(const struct pith_archive_member *m)
{
	return m->kind >= PITH_MEMBER_FILE && m->kind <= PITH_MEMBER_HARD_LINK && m->mode <= 07777 &&
	       m->mtime_nsec <= MAX_NSEC && m->target_nbytes <= ARCHIVE_MAX_NAME_NBYTES &&
	       (m->target_nbytes > 0) == has_target(m) &&
	       (m->target_nbytes == 0 || memchr(m->target, 0, m->target_nbytes) == NULL) &&
	       length_of(m->uname) <= ARCHIVE_MAX_OWNER_NBYTES && length_of(m->gname) <= ARCHIVE_MAX_OWNER_NBYTES;
}

/*
 * File: magic, key, then records of a head {kind, nbytes, XXH3 of the payload, of the head} and a payload.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "calibrate_journal.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC "PithJrn1"
#define START_NBYTES 40u
#define HEAD_NBYTES 32u
#define TERM_NBYTES (8u + 4u * PITH_TERM_PARAMS)
#define PLANE_NBYTES 20u
#define RESULT_NBYTES 80u
#define MAX_NAME_EXTRA 12u

enum { RECORD_WEIGHT = 1, RECORD_STAGE = 2 };

struct calibration_journal {
	char *path;       /* TARGET.resume */
	char *state_path; /* TARGET.resume-0, the last character set by use */
	int fd;
	uint64_t end;     /* of the records that count */
	uint64_t at;      /* of the next one to read */
	uint64_t stages;
	uint64_t state_hash; /* of the last stage */
};

/* ---- files ---- */

static pith_status fail_io(const char *what, struct pith_error *err)
{
	return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s the journal of the conversion: %s", what,
	                 strerror(errno));
}

static pith_status no_memory(struct pith_error *err)
{
	return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the journal");
}

static pith_status write_all(int fd, const void *data, size_t nbytes, uint64_t off,
                             struct pith_error *err)
{
	const uint8_t *p = data;
	for (size_t done = 0; done < nbytes;) {
		ssize_t put = pwrite(fd, p + done, nbytes - done, (off_t)(off + done));
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return fail_io("cannot write", err);
		done += (size_t)put;
	}
	return PITH_OK;
}

/* false: fewer bytes are there, or they cannot be read. */
static bool read_all(int fd, void *data, size_t nbytes, uint64_t off)
{
	uint8_t *p = data;
	for (size_t done = 0; done < nbytes;) {
		ssize_t got = pread(fd, p + done, nbytes - done, (off_t)(off + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		done += (size_t)got;
	}
	return true;
}

/* ---- records ---- */

static pith_status append_record(struct calibration_journal *j, uint64_t kind, const uint8_t *payload,
                                 size_t nbytes, struct pith_error *err)
{
	uint8_t head[HEAD_NBYTES];
	store_le64(head, kind);
	store_le64(head + 8, nbytes);
	store_le64(head + 16, XXH3_64bits(payload, nbytes));
	store_le64(head + 24, XXH3_64bits(head, 24));
	PITH_TRY(write_all(j->fd, head, HEAD_NBYTES, j->end, err));
	PITH_TRY(write_all(j->fd, payload, nbytes, j->end + HEAD_NBYTES, err));
	j->end += HEAD_NBYTES + nbytes;
	return PITH_OK;
}

/* The record at 'off', whole and undamaged; free *payload. */
static bool read_record(const struct calibration_journal *j, uint64_t off, uint64_t *kind,
                        uint8_t **payload, size_t *nbytes)
{
	uint8_t head[HEAD_NBYTES];
	*payload = NULL;
	if (!read_all(j->fd, head, HEAD_NBYTES, off) ||
	    load_le64(head + 24) != XXH3_64bits(head, 24) || load_le64(head + 8) > SIZE_MAX - 1)
		return false;
	*kind = load_le64(head);
	*nbytes = (size_t)load_le64(head + 8);
	*payload = malloc(*nbytes + 1);
	if (*payload && read_all(j->fd, *payload, *nbytes, off + HEAD_NBYTES) &&
	    XXH3_64bits(*payload, *nbytes) == load_le64(head + 16))
		return true;
	free(*payload);
	*payload = NULL;
	return false;
}

/* Find the last stage; what follows it is cut off. */
static pith_status scan(struct calibration_journal *j, struct pith_error *err)
{
	uint64_t off = START_NBYTES, kind;
	uint8_t *payload;
	size_t nbytes;
	j->end = j->at = off;
	while (read_record(j, off, &kind, &payload, &nbytes)) {
		off += HEAD_NBYTES + nbytes;
		if (kind == RECORD_STAGE && nbytes == 16) {
			j->stages = load_le64(payload);
			j->state_hash = load_le64(payload + 8);
			j->end = off;
		}
		free(payload);
	}
	if (ftruncate(j->fd, (off_t)j->end) != 0)
		return fail_io("cannot cut", err);
	return PITH_OK;
}

/* ---- opening ---- */

static pith_status start(struct calibration_journal *j, const uint8_t key[32],
                         struct pith_error *err)
{
	uint8_t head[START_NBYTES];
	memcpy(head, MAGIC, 8);
	memcpy(head + 8, key, 32);
	if (ftruncate(j->fd, 0) != 0)
		return fail_io("cannot clear", err);
	j->end = j->at = START_NBYTES;
	return write_all(j->fd, head, START_NBYTES, 0, err);
}

static pith_status start_or_continue(struct calibration_journal *j, const uint8_t key[32],
                                     bool resume, struct pith_error *err)
{
	uint8_t head[START_NBYTES];
	if (!resume || !read_all(j->fd, head, START_NBYTES, 0))
		return start(j, key, err);
	if (memcmp(head, MAGIC, 8) != 0 || memcmp(head + 8, key, 32) != 0)
		return pith_fail(err, PITH_E_ARGUMENT, PITH_NO_OFF, NULL,
		                 "--resume: %.100s is of a conversion with another source, recipe, text or "
		                 "library; remove it or leave --resume out", j->path);
	return scan(j, err);
}

static char *make_name(const char *target, const char *suffix)
{
	size_t nbytes = strlen(target);
	char *name = malloc(nbytes + MAX_NAME_EXTRA);
	if (name) {
		memcpy(name, target, nbytes);
		memcpy(name + nbytes, suffix, strlen(suffix) + 1);
	}
	return name;
}

pith_status calibration_journal_open(const char *target, const uint8_t key[32], bool resume,
                                     struct calibration_journal **out, uint64_t *stages,
                                     struct pith_error *err)
{
	*out = NULL;
	struct calibration_journal *j = calloc(1, sizeof(*j));
	if (!j)
		return no_memory(err);
	j->fd = -1;
	j->path = make_name(target, ".resume");
	j->state_path = make_name(target, ".resume-0");
	pith_status status = j->path && j->state_path ? PITH_OK : no_memory(err);
	if (status == PITH_OK) {
		j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		status = j->fd < 0 ? fail_io("cannot open", err) : PITH_OK;
	}
	if (status == PITH_OK)
		status = start_or_continue(j, key, resume, err);
	if (status != PITH_OK) {
		calibration_journal_close(j);
		return status;
	}
	*stages = j->stages;
	*out = j;
	return PITH_OK;
}

void calibration_journal_close(struct calibration_journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	free(j->path);
	free(j->state_path);
	free(j);
}

static const char *state_name(const struct calibration_journal *j, uint64_t stage)
{
	j->state_path[strlen(j->state_path) - 1] = (char)('0' + stage % 2);
	return j->state_path;
}

void calibration_journal_finish(struct calibration_journal *j)
{
	unlink(j->path);
	unlink(state_name(j, 0));
	unlink(state_name(j, 1));
	calibration_journal_close(j);
}

/* ---- weights ---- */

static size_t result_nbytes(const struct quant_result *q, size_t m, size_t n)
{
	size_t nbytes = RESULT_NBYTES + (q->permute ? 4 * n : 0) + (q->shift ? 4 * (n + m) : 0);
	for (size_t i = 0; i < q->term_count; i++) {
		nbytes += TERM_NBYTES;
		for (uint32_t k = 0; k < q->term[i].plane_count; k++)
			nbytes += PLANE_NBYTES + q->term[i].plane[k].nbytes;
	}
	return nbytes;
}

static uint8_t *put_term(uint8_t *p, const struct pith_packed_term *t)
{
	store_le32(p, t->kind);
	store_le32(p + 4, t->plane_count);
	for (size_t i = 0; i < PITH_TERM_PARAMS; i++)
		store_le32(p + 8 + 4 * i, t->param[i]);
	p += TERM_NBYTES;
	for (uint32_t k = 0; k < t->plane_count; k++) {
		const struct pith_packed_plane *plane = &t->plane[k];
		store_le64(p, plane->nbytes);
		store_le32(p + 8, plane->role);
		store_le32(p + 12, plane->layout);
		store_le32(p + 16, plane->dtype);
		memcpy(p + PLANE_NBYTES, plane->data, plane->nbytes);
		p += PLANE_NBYTES + plane->nbytes;
	}
	return p;
}

pith_status calibration_journal_add(struct calibration_journal *j, uint64_t step, size_t m, size_t n,
                                    const struct quant_result *q, struct pith_error *err)
{
	size_t nbytes = result_nbytes(q, m, n);
	uint8_t *data = calloc(nbytes, 1);
	if (!data)
		return no_memory(err);
	store_le64(data, step);
	store_le32(data + 8, (uint32_t)q->term_count);
	store_le32(data + 12, q->activation);
	store_le64(data + 16, q->permute ? n : 0);
	const double number[4] = {q->error2, q->norm2, q->proxy2, q->proxy_norm2};
	memcpy(data + 24, number, sizeof(number));
	store_f32(data + 56, q->activation_scale);
	store_le64(data + 64, q->shift ? n : 0);
	store_le64(data + 72, q->shift ? m : 0);
	uint8_t *p = data + RESULT_NBYTES;
	for (size_t i = 0; q->permute && i < n; i++, p += 4)
		store_le32(p, q->permute[i]);
	for (size_t i = 0; q->shift && i < n; i++, p += 4)
		store_f32(p, q->shift[i]);
	for (size_t i = 0; q->shift && i < m; i++, p += 4)
		store_f32(p, q->bias[i]);
	for (size_t i = 0; i < q->term_count; i++)
		p = put_term(p, &q->term[i]);
	pith_status status = append_record(j, RECORD_WEIGHT, data, nbytes, err);
	free(data);
	return status;
}

struct cursor {
	const uint8_t *p;
	size_t left;
};

/* 'nbytes' bytes, or NULL behind the end. */
static const uint8_t *take(struct cursor *c, size_t nbytes)
{
	if (nbytes > c->left)
		return NULL;
	const uint8_t *p = c->p;
	c->p += nbytes;
	c->left -= nbytes;
	return p;
}

static bool get_plane(struct cursor *c, struct pith_packed_term *t, struct pith_error *err)
{
	const uint8_t *p = take(c, PLANE_NBYTES);
	const uint8_t *data = p ? take(c, (size_t)load_le64(p)) : NULL;
	if (!data || pith_packed_add(t, load_le32(p + 8), load_le32(p + 12), load_le32(p + 16),
	                             load_le64(p), err) != PITH_OK)
		return false;
	memcpy(t->plane[t->plane_count - 1].data, data, (size_t)load_le64(p));
	return true;
}

static bool get_term(struct cursor *c, struct pith_packed_term *t, struct pith_error *err)
{
	const uint8_t *p = take(c, TERM_NBYTES);
	if (!p || load_le32(p + 4) > PITH_MAX_PLANES)
		return false;
	t->kind = load_le32(p);
	for (size_t i = 0; i < PITH_TERM_PARAMS; i++)
		t->param[i] = load_le32(p + 8 + 4 * i);
	for (uint32_t k = 0; k < load_le32(p + 4); k++)
		if (!get_plane(c, t, err))
			return false;
	return true;
}

/* 'count' floats, malloc'd; NULL without memory or behind the end. */
static float *get_floats(struct cursor *c, uint64_t count)
{
	const uint8_t *p = count <= c->left / 4 ? take(c, 4 * (size_t)count) : NULL;
	float *out = p ? malloc((size_t)count * sizeof(*out)) : NULL;
	for (size_t i = 0; out && i < count; i++)
		out[i] = load_f32(p + 4 * i);
	return out;
}

static bool get_result(struct cursor *c, uint64_t *step, struct quant_result *out,
                       struct pith_error *err)
{
	const uint8_t *p = take(c, RESULT_NBYTES);
	if (!p || load_le32(p + 8) > PITH_MAX_TERMS)
		return false;
	*step = load_le64(p);
	size_t count = load_le32(p + 8), n = (size_t)load_le64(p + 16);
	double number[4];
	out->activation = load_le32(p + 12);
	out->activation_scale = load_f32(p + 56);
	memcpy(number, p + 24, sizeof(number));
	out->error2 = number[0];
	out->norm2 = number[1];
	out->proxy2 = number[2];
	out->proxy_norm2 = number[3];
	if (n > 0) {
		const uint8_t *index = n <= c->left / 4 ? take(c, 4 * n) : NULL;
		out->permute = index ? malloc(n * sizeof(*out->permute)) : NULL;
		for (size_t i = 0; out->permute && i < n; i++)
			out->permute[i] = load_le32(index + 4 * i);
		if (!out->permute)
			return false;
	}
	if (load_le64(p + 64) > 0) {
		out->shift = get_floats(c, load_le64(p + 64));
		out->bias = get_floats(c, load_le64(p + 72));
		if (!out->shift || !out->bias)
			return false;
	}
	for (out->term_count = 0; out->term_count < count; out->term_count++)
		if (!get_term(c, &out->term[out->term_count], err)) {
			out->term_count++; /* its planes are freed with it */
			return false;
		}
	return true;
}

pith_status calibration_journal_next(struct calibration_journal *j, uint64_t *step,
                                     struct quant_result *out, struct pith_error *err)
{
	*step = UINT64_MAX;
	memset(out, 0, sizeof(*out));
	while (j->at < j->end) {
		uint64_t kind;
		uint8_t *payload;
		size_t nbytes;
		if (!read_record(j, j->at, &kind, &payload, &nbytes))
			return fail_io("cannot read", err);
		j->at += HEAD_NBYTES + nbytes;
		struct cursor c = {payload, nbytes};
		bool good = kind != RECORD_WEIGHT || get_result(&c, step, out, err);
		free(payload);
		if (!good) {
			quant_result_free(out);
			return pith_fail(err, PITH_E_CORRUPT, j->at, NULL, "%.100s is damaged: remove it",
			                 j->path);
		}
		if (kind == RECORD_WEIGHT)
			return PITH_OK;
	}
	return PITH_OK;
}

/* ---- states ---- */

static uint64_t hash_states(const struct calibration_stream *a, const struct calibration_stream *b)
{
	return XXH3_64bits(a->data, a->nbytes) ^ (b->data ? 3 * XXH3_64bits(b->data, b->nbytes) : 0);
}

pith_status calibration_journal_load(struct calibration_journal *j, struct calibration_stream *a,
                                     struct calibration_stream *b, struct pith_error *err)
{
	int fd = open(state_name(j, j->stages), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail_io("cannot open the states of", err);
	bool good = read_all(fd, a->data, a->nbytes, 0) &&
	            (!b->data || read_all(fd, b->data, b->nbytes, a->nbytes));
	close(fd);
	if (!good || hash_states(a, b) != j->state_hash)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "%.100s is damaged: remove it or leave --resume out", j->state_path);
	return PITH_OK;
}

static pith_status write_states(const char *path, const struct calibration_stream *a,
                                const struct calibration_stream *b, struct pith_error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return fail_io("cannot make the states of", err);
	pith_status status = write_all(fd, a->data, a->nbytes, 0, err);
	if (status == PITH_OK && b->data)
		status = write_all(fd, b->data, b->nbytes, a->nbytes, err);
	if (status == PITH_OK && fsync(fd) != 0)
		status = fail_io("cannot sync the states of", err);
	if (close(fd) != 0 && status == PITH_OK)
		status = fail_io("cannot close the states of", err);
	return status;
}

pith_status calibration_journal_commit(struct calibration_journal *j,
                                       const struct calibration_stream *a,
                                       const struct calibration_stream *b, struct pith_error *err)
{
	uint8_t payload[16];
	PITH_TRY(write_states(state_name(j, j->stages + 1), a, b, err));
	/* weights and states before the record that says they are there */
	if (fsync(j->fd) != 0)
		return fail_io("cannot sync", err);
	j->stages++;
	j->state_hash = hash_states(a, b);
	store_le64(payload, j->stages);
	store_le64(payload + 8, j->state_hash);
	PITH_TRY(append_record(j, RECORD_STAGE, payload, sizeof(payload), err));
	if (fsync(j->fd) != 0)
		return fail_io("cannot sync", err);
	return PITH_OK;
}

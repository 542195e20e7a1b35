/*
 * Text archives in memory with a toy model: any bytes come back, archives do not depend on threads, and no
 * flipped byte, cut or resealed record crashes the reader or gets wrong content past it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_directory.h"
#include "archive_memory.h"
#include "archive_reseal.h"
#include "checksum.h"
#include "frame_run.h"
#include "text_archive.h"
#include "toy_lm.h"

#include <setjmp.h>
#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct input {
	const char *name;
	const uint8_t *data;
	size_t nbytes;
};

struct made {
	struct pith_text_coder *coder;
	struct pith_team *team;
	enum pith_text_level level;
};

static int set_up(void **state)
{
	static struct made made;
	assert_int_equal(pith_text_coder_of_lm(&toy_lm, &made.coder, NULL), PITH_OK);
	assert_int_equal(pith_team_new(2, &made.team, NULL), PITH_OK);
	*state = &made;
	return 0;
}

static int tear_down(void **state)
{
	struct made *made = *state;
	pith_text_coder_free(made->coder);
	pith_team_free(made->team);
	return 0;
}

static void zip(const struct made *made, const struct input *in, size_t count, uint32_t segment,
                bool threads, struct archive_memory *out, struct pith_archive_stats *stats)
{
	struct pith_archive_writer *w;
	struct pith_error err = {0};
	struct pith_archive_writer_options o = {
		.coder = made->coder,
		.executor = threads ? pith_team_executor(made->team) : NULL,
		.level = made->level,
		.segment_nbytes = segment,
		.sink = archive_memory_put,
		.sink_ctx = out,
	};
	out->nbytes = 0;
	assert_int_equal(pith_archive_writer_new(&o, &w, &err), PITH_OK);
	for (size_t i = 0; i < count; i++) {
		struct pith_archive_member m = {.kind = PITH_MEMBER_FILE, .mode = 0644, .name = in[i].name,
		                                .name_nbytes = strlen(in[i].name), .mtime = -5,
		                                .mtime_nsec = 7, .target = ""};
		assert_int_equal(pith_archive_writer_member(w, &m, &err), PITH_OK);
		/* in odd pieces, as a pipe gives them */
		for (size_t at = 0; at < in[i].nbytes;) {
			size_t n = in[i].nbytes - at < 1237 ? in[i].nbytes - at : 1237;
			assert_int_equal(pith_archive_writer_data(w, in[i].data + at, n, &err), PITH_OK);
			at += n;
		}
	}
	pith_status status = pith_archive_writer_finish(w, stats, &err);
	if (status != PITH_OK)
		fail_msg("finish: %s", err.msg);
	pith_archive_writer_free(w);
	assert_int_equal(stats->archive_nbytes, out->nbytes);
	assert_int_equal(stats->verify_failures, 0);
}

/* What a reading gave: content of completed members in order. */
struct output {
	struct archive_memory all;
	size_t completed;
	size_t completed_nbytes;
};

static pith_status take_end(void *ctx, size_t member, struct pith_error *err)
{
	struct output *o = ctx;
	(void)member;
	(void)err;
	o->completed++;
	o->completed_nbytes = o->all.nbytes;
	return PITH_OK;
}

static pith_status take_data(void *ctx, const void *data, size_t nbytes, struct pith_error *err)
{
	return archive_memory_put(&((struct output *)ctx)->all, data, nbytes, err);
}

static pith_status unzip(const struct made *made, const struct archive_memory *in, const bool *selected,
                         bool threads, struct output *out, struct pith_error *err)
{
	struct pith_archive *a;
	struct archive_memory copy = *in;
	struct pith_archive_source source = {in->nbytes, archive_memory_get, &copy};
	out->all.nbytes = out->completed = out->completed_nbytes = 0;
	PITH_TRY(pith_archive_open(&source, &a, err));
	struct pith_archive_read_options o = {
		.coder = made->coder,
		.executor = threads ? pith_team_executor(made->team) : NULL,
		.data = take_data,
		.end = take_end,
		.ctx = out,
		.memory_limit = (size_t)64 << 20,
	};
	pith_status status = pith_archive_read(a, selected, &o, err);
	pith_archive_close(a);
	return status;
}

/* One archive of 'in' comes back, the same with and without threads; returns its size. */
static size_t check_round_trip(const struct made *made, const struct input *in, size_t count,
                               uint32_t segment, struct pith_archive_stats *stats)
{
	struct archive_memory one = {0}, two = {0};
	struct output out = {0};
	struct pith_error err = {0};
	zip(made, in, count, segment, false, &one, stats);
	zip(made, in, count, segment, true, &two, stats);
	assert_int_equal(one.nbytes, two.nbytes);
	assert_memory_equal(one.data, two.data, one.nbytes);
	for (int threads = 0; threads < 2; threads++) {
		pith_status status = unzip(made, &one, NULL, threads != 0, &out, &err);
		if (status != PITH_OK)
			fail_msg("unzip: %s (%s)", err.msg, err.rule);
		assert_int_equal(out.completed, count);
		size_t at = 0;
		for (size_t i = 0; i < count; i++) {
			assert_true(at + in[i].nbytes <= out.all.nbytes);
			if (in[i].nbytes > 0)
				assert_memory_equal(out.all.data + at, in[i].data, in[i].nbytes);
			at += in[i].nbytes;
		}
		assert_int_equal(at, out.all.nbytes);
	}
	size_t nbytes = one.nbytes;
	free(one.data);
	free(two.data);
	free(out.all.data);
	return nbytes;
}

enum { BIG = 30000 };

/* A word that the toy expects; returns its size. */
static size_t put_word(uint8_t *p, size_t room, uint32_t random)
{
	const char *word = toy_words[random % PITH_ARRAY_LENGTH(toy_words)];
	size_t nbytes = strlen(word) < room ? strlen(word) : room;
	memcpy(p, word, nbytes);
	return nbytes;
}

/* A line of two words with CRLF behind it. */
static size_t put_line(uint8_t *p, size_t room, uint32_t random)
{
	const char *line = random % 2 == 0 ? "the abcd\r\n" : "in the ab\r\n";
	size_t nbytes = strlen(line) < room ? strlen(line) : room;
	memcpy(p, line, nbytes);
	return nbytes;
}

static uint8_t *fill(const char *kind)
{
	uint8_t *p = malloc(BIG);
	uint32_t h = 12345;
	assert_non_null(p);
	for (size_t i = 0; i < BIG; i++) {
		h = h * 1664525u + 1013904223u;
		if (strcmp(kind, "random") == 0)
			p[i] = (uint8_t)(h >> 24);
		else if (strcmp(kind, "run") == 0)
			p[i] = 'a';
		else if (strcmp(kind, "utf8") == 0)
			p[i] = (uint8_t)(0x80 + (h >> 25)); /* never valid */
		else if (strcmp(kind, "table") == 0)
			p[i] = i % 4 == 0 ? (uint8_t)(h >> 27) : 'x'; /* controls, and zstd gains */
		else if (strcmp(kind, "padded") == 0)
			p[i] = i % 512 < 256 ? (uint8_t)('a' + (h >> 29)) : 0; /* as in tar */
		else if (strcmp(kind, "crlf") == 0)
			i += put_line(p + i, BIG - i, h >> 16) - 1;
		else
			i += put_word(p + i, BIG - i, h >> 16) - 1;
	}
	return p;
}

/* What 'zstd -19' makes of the content, segment by segment: the yardstick of spec text_archive.md 16. */
static size_t zstd_nbytes(const uint8_t *p, size_t nbytes, size_t segment)
{
	size_t total = 0, got;
	uint8_t *out = malloc(pith_frame_run_bound(segment));
	assert_non_null(out);
	for (size_t at = 0; at < nbytes; at += segment) {
		size_t n = nbytes - at < segment ? nbytes - at : segment;
		assert_int_equal(pith_frame_run_encode(p + at, n, 19, out, pith_frame_run_bound(segment), &got,
		                                       NULL), PITH_OK);
		total += got + 7; /* the command adds content size and checksum */
	}
	free(out);
	return total;
}

static void any_bytes_come_back(void **state)
{
	struct made *made = *state;
	struct pith_archive_stats stats;
	static uint8_t all[256];
	for (size_t i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	struct input small[] = {{"empty", all, 0}, {"one", all, 1}, {"all", all, 256},
	                        {"text", (const uint8_t *)"the end of the thin abcd\n", 25}, {"last", all, 0}};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(small); i++)
		check_round_trip(made, &small[i], 1, 4096, &stats);
	check_round_trip(made, small, PITH_ARRAY_LENGTH(small), 4096, &stats);
	check_round_trip(made, small, 0, 4096, &stats);
	const char *const kinds[] = {"random", "run", "utf8", "text", "crlf"};
	const uint32_t segments[] = {4096, 10001, 1 << 20};
	for (size_t k = 0; k < PITH_ARRAY_LENGTH(kinds); k++) {
		uint8_t *p = fill(kinds[k]);
		struct input in[] = {{"a", p, BIG / 3}, {"none", p, 0}, {"b", p + BIG / 3, BIG - BIG / 3}};
		for (size_t s = 0; s < PITH_ARRAY_LENGTH(segments); s++) {
			size_t nbytes = check_round_trip(made, in, 3, segments[s], &stats);
			size_t limit = zstd_nbytes(p, BIG, segments[s]);
			assert_true(nbytes <= limit + limit / 200 + 256 + 3 * 96);
		}
		free(p);
	}
}

/* The toy likes lower case: the model must win on some text, or nothing here tests it. */
static void the_model_is_used(void **state)
{
	struct pith_archive_stats stats;
	uint8_t *p = fill("text");
	struct input in = {"t", p, 9000};
	check_round_trip(*state, &in, 1, 4096, &stats);
	print_message("model segments: %u of %u, %u bytes of %u\n", (unsigned)stats.model_segments,
	              (unsigned)stats.segments, (unsigned)stats.model_stored_nbytes,
	              (unsigned)stats.model_content_nbytes);
	assert_true(stats.model_segments >= 1);
	free(p);
}

/* Runs that zstd codes better whole: a block that comes again behind more than a segment. */
static void repeats_become_one_segment(void **state)
{
	struct pith_archive_stats stats;
	uint8_t *p = fill("random"), *all = malloc(2 * (size_t)BIG);
	assert_non_null(all);
	memcpy(all, p, BIG);
	memcpy(all + BIG, p, BIG);
	struct input in[] = {{"a", all, BIG}, {"b", all + BIG, BIG}};
	size_t nbytes = check_round_trip(*state, in, 2, BIG / 2, &stats);
	assert_int_equal(stats.segments, 1);
	assert_true(nbytes < BIG + BIG / 50 + 256 + 2 * 96);
	free(all);
	free(p);
}

/* A file of text, then binary, then text: each part gets its method. */
static void mixed_files_switch(void **state)
{
	enum { BLOCK = 65536 };
	struct pith_archive_stats stats;
	struct made *made = *state;
	struct archive_memory archive = {0};
	uint8_t *all = malloc(3 * BLOCK);
	assert_non_null(all);
	uint32_t h = 5;
	for (size_t i = 0; i < 3 * BLOCK;) {
		h = h * 1664525u + 1013904223u;
		if (i / BLOCK == 1)
			all[i++] = (uint8_t)(h >> 24);
		else
			i += put_word(all + i, BLOCK - i % BLOCK, h >> 16);
	}
	struct input in = {"mixed", all, 3 * BLOCK};
	zip(made, &in, 1, 1 << 20, true, &archive, &stats);
	assert_int_equal(stats.segments, 3);
	assert_int_equal(stats.model_segments, 2);
	assert_int_equal(stats.model_content_nbytes, 2 * BLOCK);
	struct pith_archive *a;
	struct pith_archive_source source = {archive.nbytes, archive_memory_get, &archive};
	assert_int_equal(pith_archive_open(&source, &a, NULL), PITH_OK);
	assert_int_equal(pith_archive_member_methods(a, 0), 1u << 0 | 1u << 2); /* stored, model */
	pith_archive_close(a);
	free(archive.data);
	free(all);
}

/* The limit of spec text_archive.md 16 where headers weigh most: hundreds of members of a few random bytes. */
static void many_small_members_stay_in_the_limit(void **state)
{
	enum { COUNT = 700 };
	static char names[COUNT][24];
	static struct input in[COUNT];
	struct pith_archive_stats stats;
	uint8_t *p = fill("random");
	const size_t counts[] = {1, 2, COUNT};
	for (size_t c = 0; c < PITH_ARRAY_LENGTH(counts); c++) {
		size_t total = 0;
		for (size_t i = 0; i < counts[c]; i++) {
			snprintf(names[i], sizeof(names[i]), "folder/%zx-member.bin", i * 7919 % 65521);
			in[i] = (struct input){names[i], p + total, i * 31 % 30};
			total += in[i].nbytes;
		}
		size_t nbytes = check_round_trip(*state, in, counts[c], 1 << 20, &stats);
		size_t limit = zstd_nbytes(p, total, 1 << 20);
		assert_true(nbytes <= limit + limit / 200 + 256 + counts[c] * 96);
	}
	free(p);
}

static void one_member_alone(void **state)
{
	uint8_t *p = fill("text");
	struct input in[] = {{"a", p, 6000}, {"b", p + 6000, 5000}, {"c", p + 11000, 9000}};
	struct pith_archive_stats stats;
	struct archive_memory archive = {0};
	struct output out = {0};
	zip(*state, in, 3, 4096, false, &archive, &stats);
	bool selected[3] = {false, true, false};
	assert_int_equal(unzip(*state, &archive, selected, false, &out, NULL), PITH_OK);
	assert_int_equal(out.all.nbytes, 5000);
	assert_memory_equal(out.all.data, p + 6000, 5000);
	free(p);
	free(archive.data);
	free(out.all.data);
}

static void small_archive(void *state, struct archive_memory *archive, uint8_t **p)
{
	struct pith_archive_stats stats;
	*p = fill("text");
	struct input in[] = {{"dir/a", *p, 300}, {"b", *p + 300, 500}};
	zip(state, in, 2, 4096, false, archive, &stats);
	assert_int_equal(stats.model_segments, 1);
}

static void every_flip_and_cut_is_found(void **state)
{
	uint8_t *p;
	struct archive_memory archive = {0};
	struct output out = {0};
	small_archive(*state, &archive, &p);
	for (size_t i = 0; i < archive.nbytes; i++) {
		struct pith_error err = {0};
		archive.data[i] ^= (uint8_t)(1u << i % 8);
		assert_int_not_equal(unzip(*state, &archive, NULL, false, &out, &err), PITH_OK);
		assert_true(err.msg[0] != '\0');
		archive.data[i] ^= (uint8_t)(1u << i % 8);
	}
	size_t whole = archive.nbytes;
	for (size_t n = 0; n < whole; n++) {
		archive.nbytes = n;
		assert_int_not_equal(unzip(*state, &archive, NULL, false, &out, NULL), PITH_OK);
	}
	archive.nbytes = whole;
	assert_int_equal(unzip(*state, &archive, NULL, false, &out, NULL), PITH_OK);
	assert_memory_equal(out.all.data, p, 800);
	free(p);
	free(archive.data);
	free(out.all.data);
}

/* An archive of one segment with a raw directory, so that resealing reaches everything. */
static void plain_archive(void *state, struct archive_memory *archive)
{
	uint8_t *p;
	small_archive(state, archive, &p);
	free(p);
	uint8_t *trailer = archive->data + archive->nbytes - 64;
	size_t off = (size_t)load_le64(trailer + 8), nbytes = (size_t)load_le64(trailer + 24);
	struct archive_memory out = {0};
	archive_memory_put(&out, archive->data, off, NULL);
	if (load_le32(trailer + 4) == 1) {
		uint8_t *plain = malloc(nbytes);
		assert_non_null(plain);
		assert_int_equal(pith_frame_run_decode(archive->data + off, (size_t)load_le64(trailer + 16), plain,
		                                       nbytes, 0, NULL), PITH_OK);
		archive_memory_put(&out, plain, nbytes, NULL);
		free(plain);
	} else {
		archive_memory_put(&out, archive->data + off, nbytes, NULL);
	}
	store_le32(trailer + 4, 0);
	store_le64(trailer + 16, nbytes);
	store_le64(trailer + 48, off + nbytes + 64);
	archive_memory_put(&out, trailer, 64, NULL);
	free(archive->data);
	*archive = out;
	archive_reseal(archive->data, archive->nbytes);
}

/* Checksums right, fields wrong: whatever is accepted has the content it was made with. */
static void resealed_damage_is_harmless(void **state)
{
	struct archive_memory archive = {0}, work = {0};
	struct output out = {0}, good = {0};
	plain_archive(*state, &archive);
	assert_int_equal(unzip(*state, &archive, NULL, false, &good, NULL), PITH_OK);
	archive_memory_put(&work, archive.data, archive.nbytes, NULL);
	size_t accepted = 0;
	for (size_t i = 0; i < archive.nbytes; i++) {
		for (unsigned v = 0; v < 3; v++) {
			static const uint8_t changes[3] = {0x01, 0x80, 0xff};
			memcpy(work.data, archive.data, archive.nbytes);
			work.data[i] ^= changes[v];
			archive_reseal(work.data, work.nbytes);
			if (unzip(*state, &work, NULL, false, &out, NULL) != PITH_OK)
				continue;
			accepted++;
			assert_int_equal(out.all.nbytes, good.all.nbytes);
			assert_memory_equal(out.all.data, good.all.data, good.all.nbytes);
		}
	}
	assert_true(accepted > 0); /* modes and times, for example */
	free(archive.data);
	free(work.data);
	free(out.all.data);
	free(good.all.data);
}

static void hostile_names_are_refused(void **state)
{
	static const char *const bad[] = {"/etc", "..", "../a", "a/../b", "a//b", "a/", ".", "./a", "a/.", ""};
	static const char *const good[] = {"a", "a/b", "...", "..a", "a..", ".hidden", "\xff\xfe", "a\nb", "a b"};
	(void)state;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(bad); i++)
		assert_false(archive_name_is_valid(bad[i], strlen(bad[i])));
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(good); i++)
		assert_true(archive_name_is_valid(good[i], strlen(good[i])));
	assert_false(archive_name_is_valid("a\0b", 3));
	struct archive_memory archive = {0};
	struct output out = {0};
	struct pith_error err = {0};
	plain_archive(*state, &archive);
	/* the first name is "dir/a": its 'dir' becomes '../' */
	uint8_t *name = archive.data + archive.nbytes - 64;
	while (memcmp(name, "dir/a", 5) != 0)
		name--;
	memcpy(name, "../xx", 5);
	archive_reseal(archive.data, archive.nbytes);
	assert_int_equal(unzip(*state, &archive, NULL, false, &out, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "text.15");
	free(archive.data);
	free(out.all.data);
}

static void a_model_is_named_when_missing(void **state)
{
	uint8_t *p;
	struct archive_memory archive = {0};
	struct output out = {0};
	struct pith_error err = {0};
	small_archive(*state, &archive, &p);
	struct made none = {0};
	assert_int_equal(unzip(&none, &archive, NULL, false, &out, &err), PITH_E_UNSUPPORTED);
	/* "a toy model 330" in hex */
	assert_non_null(strstr(err.msg, "6120746f79206d6f64656c2033333000"));
	struct text_lm other = toy_lm;
	other.identity[0] ^= 1;
	assert_int_equal(pith_text_coder_of_lm(&other, &none.coder, NULL), PITH_OK);
	assert_int_equal(unzip(&none, &archive, NULL, false, &out, &err), PITH_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "6120746f79206d6f64656c2033333000"));
	pith_text_coder_free(none.coder);
	free(p);
	free(archive.data);
	free(out.all.data);
}

static size_t asked;

static pith_status count_encode(const void *ctx, const uint8_t *text, size_t nbytes, uint32_t *ids, size_t ids_cap,
                                size_t *ids_count, struct pith_error *err)
{
	asked++;
	return toy_lm.encode(ctx, text, nbytes, ids, ids_cap, ids_count, err);
}

/*
 * Random bytes never reach the model, which would take minutes a megabyte to say no, and binary data does at the level
 * small alone; little content, or text, does.
 */
static void some_content_is_not_for_the_model(void **state)
{
	static const struct {
		const char *kind;
		size_t nbytes;
		enum pith_text_level level;
		size_t asked;
	} cases[] = {
		{"random", BIG, PITH_LEVEL_SMALL, 0}, {"random", 1000, PITH_LEVEL_DEFAULT, 1},
		{"text", 20000, PITH_LEVEL_DEFAULT, 1}, {"table", 20000, PITH_LEVEL_DEFAULT, 0},
		{"table", 20000, PITH_LEVEL_SMALL, 1}, {"table", 4095, PITH_LEVEL_DEFAULT, 1},
		{"padded", 20000, PITH_LEVEL_DEFAULT, 1},
	};
	(void)state;
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(cases); i++) {
		struct text_lm lm = toy_lm;
		struct made made = {.level = cases[i].level};
		struct archive_memory archive = {0};
		struct pith_archive_stats stats;
		uint8_t *p = fill(cases[i].kind);
		const struct input in = {"m", p, cases[i].nbytes};
		lm.encode = count_encode;
		asked = 0;
		assert_int_equal(pith_text_coder_of_lm(&lm, &made.coder, NULL), PITH_OK);
		zip(&made, &in, 1, 1 << 20, false, &archive, &stats);
		assert_int_equal(asked, cases[i].asked);
		pith_text_coder_free(made.coder);
		free(p);
		free(archive.data);
	}
}

/* CRLF text is coded without its CRs; what only looks like it is coded as it is. */
static void line_ends_come_back(void **state)
{
	static const char *const texts[] = {"\r\n", "a\r\nb\r\n", "\r\r\n\r", "\n\r\n", "\r\n\n", "a\r", "\r\r", "\n"};
	struct made *made = *state;
	const struct text_coder *coder = pith_text_coder_segment(made->coder);
	struct segment_plan plan = {0};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(texts); i++) {
		uint8_t code[200], raw[16];
		size_t nbytes, size = strlen(texts[i]);
		const uint8_t *text = (const uint8_t *)texts[i];
		assert_int_equal(segment_model_encode(coder, &plan, NULL, 1 << 30, NULL, text, size, code,
		                                      sizeof(code), &nbytes, NULL), PITH_OK);
		assert_true(nbytes > 0);
		assert_int_equal(code[0] & 1, i < 3 ? 1 : 0);
		assert_int_equal(segment_model_decode(coder, NULL, 1 << 30, NULL, code, nbytes, 0, raw, size,
		                                      NULL), PITH_OK);
		assert_memory_equal(raw, text, size);
	}
}

/* Overlaps, windows and stream counts that no default uses. */
static void every_plan_round_trips(void **state)
{
	struct made *made = *state;
	uint8_t *p = fill("text");
	uint8_t code[8000], raw[5000];
	for (uint32_t window = 2; window <= TOY_CONTEXT; window += 7) {
		for (uint32_t overlap = 0; overlap <= window / 2; overlap += 5) {
			for (size_t streams = 1; streams < 80; streams = streams * 3 + 1) {
				struct segment_plan plan = {.window = window, .overlap = overlap, .has_overlap = true,
				                            .stream_count = streams, .no_mix = streams % 2 == 0,
				                            .recall = (streams + window) % 3 == 1 ? SEGMENT_RECALL : SEGMENT_NO_RECALL};
				size_t nbytes;
				assert_int_equal(segment_model_encode(pith_text_coder_segment(made->coder), &plan,
				                                      NULL, 1 << 30, NULL, p, sizeof(raw), code,
				                                      sizeof(code), &nbytes, NULL), PITH_OK);
				assert_true(nbytes > 0);
				assert_int_equal(segment_model_decode(pith_text_coder_segment(made->coder), NULL,
				                                      1 << 30, NULL, code, nbytes, 0, raw,
				                                      sizeof(raw), NULL), PITH_OK);
				assert_memory_equal(raw, p, sizeof(raw));
			}
		}
	}
	free(p);
}

/* Threads change nothing, in either direction; damage is an error or other bytes. */
static void recall_does_not_depend_on_threads(void **state)
{
	enum { COUNT = BIG };
	const struct made *made = *state;
	const struct text_coder *coder = pith_text_coder_segment(made->coder);
	struct segment_plan plan = {.level = PITH_LEVEL_SMALL, .stream_count = 24};
	uint8_t *p = fill("text");
	static uint8_t code[3][COUNT], raw[COUNT];
	size_t nbytes[3];
	for (size_t threads = 1; threads <= 3; threads++) {
		struct pith_team *team;
		assert_int_equal(pith_team_new(threads, &team, NULL), PITH_OK);
		const struct pith_executor *executor = pith_team_executor(team);
		size_t i = threads - 1;
		assert_int_equal(segment_model_encode(coder, &plan, executor, 1 << 30, NULL, p, COUNT, code[i], COUNT,
		                                      &nbytes[i], NULL), PITH_OK);
		assert_int_equal(code[i][0], 6); /* spec text_archive.md 6: mixed, recall */
		assert_int_equal(nbytes[i], nbytes[0]);
		assert_memory_equal(code[i], code[0], nbytes[0]);
		assert_int_equal(segment_model_decode(coder, executor, 1 << 30, NULL, code[0], nbytes[0], 0, raw, COUNT,
		                                      NULL), PITH_OK);
		assert_memory_equal(raw, p, COUNT);
		code[0][nbytes[0] / 2] ^= 16;
		if (segment_model_decode(coder, executor, 1 << 30, NULL, code[0], nbytes[0], 0, raw, COUNT, NULL) == PITH_OK)
			assert_memory_not_equal(raw, p, COUNT);
		code[0][nbytes[0] / 2] ^= 16;
		pith_team_free(team);
	}
	free(p);
}

/* A host may round in another way: guards the floating-point mode that pith_parallel() sets. */
static void recall_does_not_depend_on_the_mode(void **state)
{
	enum { COUNT = BIG };
	const struct made *made = *state;
	const struct text_coder *coder = pith_text_coder_segment(made->coder);
	struct segment_plan plan = {.level = PITH_LEVEL_SMALL};
	static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_TOWARDZERO};
	static uint8_t code[3][COUNT];
	uint8_t *p = fill("text");
	size_t nbytes[3];
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(modes); i++) {
		assert_int_equal(fesetround(modes[i]), 0);
		pith_status status = segment_model_encode(coder, &plan, NULL, 1 << 30, NULL, p, COUNT, code[i], COUNT,
		                                          &nbytes[i], NULL);
		assert_int_equal(fegetround(), modes[i]);
		fesetround(FE_TONEAREST);
		assert_int_equal(status, PITH_OK);
		assert_int_equal(nbytes[i], nbytes[0]);
		assert_memory_equal(code[i], code[0], nbytes[0]);
	}
	free(p);
}

/* What recalls needs the mixer and states; the writer knows, the reader says which it misses. */
static void recall_needs_states(void **state)
{
	const struct made *made = *state;
	struct text_lm blind_lm = toy_lm;
	struct pith_text_coder *blind;
	struct segment_plan plan = {.recall = SEGMENT_RECALL};
	uint8_t *p = fill("text"), code[4000], raw[2000];
	size_t nbytes;
	blind_lm.hidden_count = 0;
	assert_int_equal(pith_text_coder_of_lm(&blind_lm, &blind, NULL), PITH_OK);
	assert_int_equal(segment_model_encode(pith_text_coder_segment(blind), &plan, NULL, 1 << 30, NULL, p, sizeof(raw),
	                                      code, sizeof(code), &nbytes, NULL), PITH_OK);
	assert_int_equal(code[0], 2);
	assert_int_equal(segment_model_encode(pith_text_coder_segment(made->coder), &plan, NULL, 1 << 30, NULL, p,
	                                      sizeof(raw), code, sizeof(code), &nbytes, NULL), PITH_OK);
	assert_int_equal(code[0], 6);
	assert_int_equal(segment_model_decode(pith_text_coder_segment(blind), NULL, 1 << 30, NULL, code, nbytes, 0, raw,
	                                      sizeof(raw), NULL), PITH_E_UNSUPPORTED);
	for (uint8_t flags = 4; flags < 16; flags++) {
		code[0] = flags;
		if (flags < 6 || flags > 7)
			assert_int_equal(segment_model_decode(pith_text_coder_segment(made->coder), NULL, 1 << 30, NULL, code,
			                                      nbytes, 0, raw, sizeof(raw), NULL), PITH_E_CORRUPT);
	}
	pith_text_coder_free(blind);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_bytes_come_back),
		cmocka_unit_test(the_model_is_used),
		cmocka_unit_test(repeats_become_one_segment),
		cmocka_unit_test(mixed_files_switch),
		cmocka_unit_test(many_small_members_stay_in_the_limit),
		cmocka_unit_test(one_member_alone),
		cmocka_unit_test(every_flip_and_cut_is_found),
		cmocka_unit_test(resealed_damage_is_harmless),
		cmocka_unit_test(hostile_names_are_refused),
		cmocka_unit_test(a_model_is_named_when_missing),
		cmocka_unit_test(some_content_is_not_for_the_model),
		cmocka_unit_test(line_ends_come_back),
		cmocka_unit_test(every_plan_round_trips),
		cmocka_unit_test(recall_does_not_depend_on_threads),
		cmocka_unit_test(recall_does_not_depend_on_the_mode),
		cmocka_unit_test(recall_needs_states),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}

/*
 * Parts of convert/ on their own: SHA-256 against the standard's examples, JSON limits,
 * schemes as text, and round-to-nearest against exhaustive search over the codes.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "json.h"
#include "quant.h"
#include "sha256.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- SHA-256: FIPS 180-4 examples ---- */

static void assert_digest(const struct sha256 *state, const char *hex)
{
	struct sha256 h = *state;
	uint8_t digest[32];
	char text[65];
	sha256_end(&h, digest);
	for (size_t i = 0; i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(text, hex);
}

static void test_sha256(void **state)
{
	(void)state;
	static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	struct sha256 h;
	sha256_begin(&h);
	assert_digest(&h, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_add(&h, "abc", 3);
	assert_digest(&h, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_begin(&h);
	for (size_t i = 0; i < strlen(two_blocks); i++)
		sha256_add(&h, two_blocks + i, 1);
	assert_digest(&h, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	char *a = malloc(1000000);
	assert_non_null(a);
	memset(a, 'a', 1000000);
	sha256_begin(&h);
	for (size_t at = 0, step = 1; at < 1000000; at += step, step = step * 2 % 977 + 1)
		sha256_add(&h, a, step < 1000000 - at ? step : 1000000 - at);
	free(a);
	assert_digest(&h, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* ---- JSON ---- */

static pith_status parse(const char *text)
{
	json_t *doc;
	struct pith_error err;
	pith_status status = jdoc_parse(text, strlen(text), "test", &doc, &err);
	json_decref(doc);
	return status;
}

static void test_json_limits(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"a\": [1, 2.5, \"x,[{\\\"\"]}"), PITH_OK);
	assert_int_equal(parse("[]"), PITH_E_CORRUPT);
	assert_int_equal(parse(""), PITH_E_CORRUPT);
	assert_int_equal(parse("{\"a\": 1, \"a\": 2}"), PITH_E_CORRUPT);
	assert_int_equal(parse("{\"a\": \"unfinished"), PITH_E_CORRUPT);
	char deep[400] = "{\"a\":";
	size_t at = strlen(deep);
	memset(deep + at, '[', 63);
	memset(deep + at + 63, ']', 63);
	strcpy(deep + at + 126, "}");
	assert_int_equal(parse(deep), PITH_OK);
	memset(deep + at, '[', 64);
	memset(deep + at + 64, ']', 64);
	strcpy(deep + at + 128, "}");
	assert_int_equal(parse(deep), PITH_E_LIMIT);
	/* brackets inside strings are text */
	memset(deep + at, '[', 200);
	deep[at] = '"';
	strcpy(deep + at + 200, "\"}");
	assert_int_equal(parse(deep), PITH_OK);
}

static void test_json_members(void **state)
{
	(void)state;
	json_t *o = json_pack("{s:i, s:f, s:b, s:s, s:n, s:I}", "i", 7, "f", 2.5, "b", 1, "s", "text",
	                      "n", "big", (json_int_t)INT64_MAX);
	struct pith_error err;
	bool present, flag = false;
	uint64_t u = 3;
	double d = 1;
	const char *s = NULL;
	assert_int_equal(jdoc_u64(o, "i", 7, 7, &u, &present, &err), PITH_OK);
	assert_true(present && u == 7);
	assert_int_equal(jdoc_u64(o, "n", 0, 9, &u, &present, &err), PITH_OK);
	assert_true(!present && u == 7);
	assert_int_equal(jdoc_u64(o, "none", 0, 9, &u, NULL, &err), PITH_OK);
	assert_int_equal(jdoc_u64(o, "i", 8, 9, &u, NULL, &err), PITH_E_CORRUPT);
	assert_int_equal(jdoc_u64(o, "f", 0, 9, &u, NULL, &err), PITH_E_CORRUPT);
	assert_int_equal(jdoc_u64(o, "big", 0, INT64_MAX, &u, NULL, &err), PITH_OK);
	assert_int_equal(jdoc_f64(o, "i", 0, 9, &d, NULL, &err), PITH_OK);
	assert_true(d == 7);
	assert_int_equal(jdoc_f64(o, "f", 3, 9, &d, NULL, &err), PITH_E_CORRUPT);
	assert_int_equal(jdoc_bool(o, "b", &flag, NULL, &err), PITH_OK);
	assert_true(flag);
	assert_int_equal(jdoc_bool(o, "i", &flag, NULL, &err), PITH_E_CORRUPT);
	assert_int_equal(jdoc_string(o, "s", &s, NULL, &err), PITH_OK);
	assert_string_equal(s, "text");
	assert_int_equal(jdoc_string(o, "b", &s, NULL, &err), PITH_E_CORRUPT);
	json_decref(o);
}

/* ---- schemes as text ---- */

static void test_schemes(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {
	    {"bf16", "bf16"},
	    {"f16", "f16"},
	    {"f32", "f32"},
	    {"rtn", "rtn:bits=4,group=64,zero=int,search=1,act=8"},
	    {"rtn:zero=sym,bits=2", "rtn:bits=2,group=64,zero=sym,search=1,act=8"},
	    {"rtn:bits=8,group=row,zero=real,search=0,act=token",
	     "rtn:bits=8,group=row,zero=real,search=0,act=token"},
	};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(pairs); i++) {
		struct scheme s;
		struct pith_error err;
		char text[SCHEME_TEXT_CAP];
		assert_int_equal(scheme_parse(pairs[i][0], &s, &err), PITH_OK);
		scheme_print(&s, text, sizeof(text));
		assert_string_equal(text, pairs[i][1]);
		assert_int_equal(scheme_parse(text, &s, &err), PITH_OK);
	}
	struct scheme s;
	struct pith_error err;
	assert_int_equal(scheme_parse("rtn:bits=4,grp=32", &s, &err), PITH_E_ARGUMENT);
	assert_int_equal(err.off, 11);
	assert_non_null(strstr(err.msg, "\"grp\" (character 12)"));
	assert_int_equal(scheme_parse("rtn:bits=12", &s, &err), PITH_E_ARGUMENT);
	assert_int_equal(err.off, 9);
}

/* ---- round to nearest ---- */

/* A source of one f32 tensor [m, n] in an unnamed file. */
struct one_tensor {
	FILE *stream;
	struct source_file file;
	struct source src;
	struct source_tensor tensor;
};

static void make_tensor(struct one_tensor *o, const float *values, size_t m, size_t n)
{
	memset(o, 0, sizeof(*o));
	o->stream = tmpfile();
	assert_non_null(o->stream);
	uint8_t raw[4];
	for (size_t i = 0; i < m * n; i++) {
		store_f32(raw, values[i]);
		assert_int_equal(fwrite(raw, 1, 4, o->stream), 4);
	}
	fflush(o->stream);
	o->file = (struct source_file){"tensors", fileno(o->stream), 4 * m * n};
	o->src.file = &o->file;
	o->src.file_count = 1;
	o->tensor = (struct source_tensor){.name = "w", .dtype = PITH_DTYPE_F32, .rank = 2,
	                                   .dim = {m, n}, .nbytes = 4 * m * n};
}

/* Quantize and decode through the term's own check and unpack_rows. */
static pith_status quantize(const char *text, const float *values, size_t m, size_t n, float *out,
                            struct quant_result *q)
{
	struct one_tensor one;
	struct scheme s;
	struct pith_error err;
	make_tensor(&one, values, m, n);
	assert_int_equal(scheme_parse(text, &s, &err), PITH_OK);
	struct quant_job job = {.src = &one.src, .tensor = &one.tensor, .m = m, .n = n, .threads = 2};
	pith_status status = scheme_run(&s, &job, q, &err);
	fclose(one.stream);
	if (status != PITH_OK)
		return status;
	struct pith_term t = {.kind = pith_term_kind_find(q->term[0].kind), .m = m, .n = n,
	                      .tiles = (m + 15) / 16, .plane_count = q->term[0].plane_count};
	memcpy(t.param, q->term[0].param, sizeof(t.param));
	for (uint32_t i = 0; i < t.plane_count; i++) {
		const struct pith_packed_plane *p = &q->term[0].plane[i];
		t.plane[i] = (struct pith_plane){.data = p->data, .nbytes = p->nbytes, .role = p->role,
		                                 .layout = p->layout, .dtype = p->dtype};
	}
	assert_int_equal(t.kind->check(&t, &err), PITH_OK);
	assert_int_equal(t.kind->verify(&t, &err), PITH_OK);
	t.kind->unpack_rows(&t, 0, m, out);
	return PITH_OK;
}

static void test_exact_groups(void **state)
{
	(void)state;
	static const float constants[] = {0.0f, -0.0f, 0.375f, -0.375f, 1.0f, -1.0f, 6e-5f, 65504.0f};
	enum { N = 40, M = PITH_ARRAY_LENGTH(constants) };
	float w[M * N], out[M * N];
	for (size_t i = 0; i < M * N; i++)
		w[i] = f32_of_f16(f16_of_f32(constants[i / N]));
	static const char *const schemes[] = {
	    "rtn:bits=2,group=16", "rtn:bits=3,group=32,search=0", "rtn:bits=8,group=row",
	    "rtn:bits=4,zero=real", "rtn:bits=5,zero=real,search=0"};
	for (size_t i = 0; i < PITH_ARRAY_LENGTH(schemes); i++) {
		struct quant_result q;
		assert_int_equal(quantize(schemes[i], w, M, N, out, &q), PITH_OK);
		for (size_t j = 0; j < M * N; j++)
			assert_true(out[j] == w[j]);
		assert_true(q.error2 == 0);
		quant_result_free(&q);
	}
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Every decoded value is one of the row's grid, and no grid value seen is nearer. */
static void assert_nearest(const float *w, const float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++)
			assert_true(fabs((double)out[i] - (double)w[i]) <=
			            fabs((double)out[j] - (double)w[i]) * (1 + 1e-6) + 1e-12);
}

static void test_nearest_codes(void **state)
{
	(void)state;
	enum { M = 19, N = 512 };
	static float w[M * N], out[M * N];
	uint64_t seed = 5;
	for (size_t i = 0; i < M * N; i++) {
		float sum = 0;
		for (int k = 0; k < 6; k++)
			sum += (float)next_random(&seed) * 0x1p-31f - 0.5f;
		w[i] = sum * ldexpf(1.0f, (int)(i / N) - 12);
	}
	static const char *const zeros[] = {"int", "real", "sym"};
	for (unsigned bits = 2; bits <= 8; bits++) {
		for (size_t z = 0; z < 3; z++) {
			char text[64];
			double error2[2];
			for (int search = 0; search < 2; search++) {
				struct quant_result q;
				snprintf(text, sizeof(text), "rtn:bits=%u,group=row,zero=%s,search=%d", bits,
				         zeros[z], search);
				assert_int_equal(quantize(text, w, M, N, out, &q), PITH_OK);
				double sum = 0;
				for (size_t i = 0; i < M * N; i++)
					sum += ((double)out[i] - (double)w[i]) * ((double)out[i] - (double)w[i]);
				assert_true(fabs(sum - q.error2) <= 1e-9 * sum);
				error2[search] = sum;
				for (size_t row = 0; row < M; row += 6)
					assert_nearest(w + row * N, out + row * N, N);
				quant_result_free(&q);
			}
			assert_true(error2[1] < error2[0]);
		}
	}
}

static void test_bad_values(void **state)
{
	(void)state;
	float w[64], out[64];
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	static const char *const schemes[] = {"rtn:bits=4", "rtn:bits=3,zero=sym", "bf16", "f16", "f32"};
	struct quant_result q;
	for (size_t s = 0; s < PITH_ARRAY_LENGTH(schemes); s++) {
		for (size_t b = 0; b < PITH_ARRAY_LENGTH(bad); b++) {
			for (size_t i = 0; i < 64; i++)
				w[i] = (float)i;
			w[63] = bad[b];
			assert_int_equal(quantize(schemes[s], w, 2, 32, out, &q), PITH_E_CORRUPT);
		}
	}
	/* the range overflows f32, or the scale f16 */
	w[62] = -3e38f;
	w[63] = 3e38f;
	assert_int_equal(quantize("rtn:bits=4", w, 2, 32, out, &q), PITH_E_LIMIT);
	assert_int_equal(quantize("rtn:bits=4,zero=real", w, 2, 32, out, &q), PITH_E_LIMIT);
	assert_int_equal(quantize("rtn:bits=4,zero=sym", w, 2, 32, out, &q), PITH_E_LIMIT);
	assert_int_equal(quantize("f16", w, 2, 32, out, &q), PITH_E_LIMIT);
	assert_int_equal(quantize("f32", w, 2, 32, out, &q), PITH_OK);
	quant_result_free(&q);
	for (size_t i = 0; i < 64; i++)
		w[i] = 1e6f; /* a constant that is no f16 */
	assert_int_equal(quantize("rtn:bits=4", w, 2, 32, out, &q), PITH_E_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sha256),       cmocka_unit_test(test_json_limits),
	    cmocka_unit_test(test_json_members), cmocka_unit_test(test_schemes),
	    cmocka_unit_test(test_exact_groups), cmocka_unit_test(test_nearest_codes),
	    cmocka_unit_test(test_bad_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

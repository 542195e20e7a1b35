/*
 * The hand-written pretokenizers against the published patterns, run by PCRE2 on random
 * Unicode text, and the class table against PCRE2's properties, all code points.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check_tokenizer.h"
#include "pretokenize.h"
#include "unicode_tables.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define LLAMA3_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define MAX_TEXT 160

/* A pretokenizer as patterns that isolate their matches, each in what the ones before left. */
struct oracle {
	uint32_t id;
	const char *patterns[6];
};

static const struct oracle oracles[] = {
    {PRETOKENIZER_GPT2, {GPT2}},
    {PRETOKENIZER_LLAMA3, {LLAMA3_HEAD "\\p{N}{1,3}" LLAMA3_TAIL}},
    {PRETOKENIZER_LLAMA3,
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"
      "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {PRETOKENIZER_QWEN2, {LLAMA3_HEAD "\\p{N}" LLAMA3_TAIL}},
    {PRETOKENIZER_STARCODER, {"\\p{N}", GPT2}},
    {PRETOKENIZER_DEEPSEEK_CODER,
     {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}"}},
    {PRETOKENIZER_SPACE_RUNS, {" *[^ ]+| +"}},
    {PRETOKENIZER_METASPACE, {" [^ ]*|[^ ]+"}},
};

static pcre2_code *compile(const char *pattern)
{
	int code;
	PCRE2_SIZE off;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
	                               &off, NULL);
	if (!re)
		fail_msg("pattern %s: error %d at %zu", pattern, code, off);
	return re;
}

/* Mark in cuts: [nbytes + 1] the starts and ends of the matches of 're' within each piece. */
static void isolate(pcre2_code *re, const char *text, size_t nbytes, bool *cuts)
{
	pcre2_match_data *match = pcre2_match_data_create(1, NULL);
	bool found[MAX_TEXT * 4 + 1] = {false};
	for (size_t start = 0, end; start < nbytes; start = end) {
		for (end = start + 1; end < nbytes && !cuts[end];)
			end++;
		for (size_t at = start; at < end;) {
			int n = pcre2_match(re, (PCRE2_SPTR)text + start, end - start, at - start, 0, match, NULL);
			if (n < 1)
				break;
			PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
			assert_true(span[1] > span[0]);
			found[start + span[0]] = found[start + span[1]] = true;
			at = start + span[1];
		}
	}
	for (size_t i = 0; i <= nbytes; i++)
		cuts[i] = cuts[i] || found[i];
	pcre2_match_data_free(match);
}

/* Characters whose neighbourhoods matter, then any that has a class. */
static uint32_t random_char(struct rng *rng)
{
	static const uint32_t pool[] = {
	    ' ', ' ', ' ', ' ', ' ', '\n', '\n', '\r', '\t', '\'', '\'', '\'', 's', 't', 'r', 'e', 'v', 'm',
	    'l', 'd', 'S', 'T', 'R', 'E', 'L', 'a', 'Z', '0', '1', '9', '.', ',', '!', '-', '_', '$', '<',
	    0x17f, 0x85, 0xa0, 0x2028, 0x3000, 0x3002, 0x300, 0x301, 0x4e2d, 0x9fa5, 0x9fa6, 0xac00, 0x1f600,
	    0x200d, 0xfe0f, 0x966, 0x905, 0xbd, 0x2160, 0x3007, 0xff0c, 0x7ff, 0x800, 0xd7ff, 0x2581, 0, 0x7f};
	if (rng_under(rng, 8) != 0)
		return pool[rng_under(rng, sizeof(pool) / sizeof(pool[0]))];
	for (;;) {
		uint32_t cp = rng_under(rng, rng_under(rng, 2) ? 0x3000 : 0x20000);
		if (unicode_class_of(cp) != UNICODE_OTHER)
			return cp;
	}
}

static size_t random_text(struct rng *rng, char *out)
{
	size_t nbytes = 0, count = 1 + rng_under(rng, MAX_TEXT);
	for (size_t i = 0; i < count; i++)
		nbytes += utf8_put(random_char(rng), (uint8_t *)out + nbytes);
	return nbytes;
}

static void compare_cuts(const struct oracle *oracle, const char *text, size_t nbytes, const bool *cuts)
{
	struct pretokens run = {(const uint8_t *)text, nbytes, 0};
	const struct pretokenizer *pretokenizer = pretokenizer_find(oracle->id);
	for (size_t pos = 0; pos < nbytes;) {
		size_t end = pretokenizer->end(&run, pos), expected = pos + 1;
		while (expected < nbytes && !cuts[expected])
			expected++;
		if (end != expected)
			fail_msg("%s: pretoken at %zu ends at %zu, not %zu: %.*s", pretokenizer->name, pos, end,
			         expected, (int)nbytes, text);
		pos = end;
	}
}

static void test_patterns(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(oracles) / sizeof(oracles[0]); i++) {
		struct rng rng = {i};
		pcre2_code *re[6] = {NULL};
		for (size_t k = 0; k < 6 && oracles[i].patterns[k]; k++)
			re[k] = compile(oracles[i].patterns[k]);
		for (int round = 0; round < 4000; round++) {
			char text[MAX_TEXT * 4];
			bool cuts[MAX_TEXT * 4 + 1] = {false};
			size_t nbytes = random_text(&rng, text);
			for (size_t k = 0; k < 6 && re[k]; k++)
				isolate(re[k], text, nbytes, cuts);
			compare_cuts(&oracles[i], text, nbytes, cuts);
		}
		for (size_t k = 0; k < 6; k++)
			pcre2_code_free(re[k]);
	}
}

/* Any bytes: pretokens never are empty and never overrun. */
static void test_any_bytes(void **state)
{
	struct rng rng = {7};
	(void)state;
	for (uint32_t id = 0; pretokenizer_find(id); id++) {
		for (int round = 0; round < 3000; round++) {
			uint8_t text[64];
			size_t nbytes = 1 + rng_under(&rng, 64);
			for (size_t i = 0; i < nbytes; i++)
				text[i] = (uint8_t)(rng_under(&rng, 3) ? 0x80 + rng_under(&rng, 128) : rng_under(&rng, 128));
			/* an exact heap copy, so that one byte too far is seen */
			uint8_t *copy = malloc(nbytes);
			memcpy(copy, text, nbytes);
			struct pretokens run = {copy, nbytes, 0};
			for (size_t pos = 0, end; pos < nbytes; pos = end) {
				end = pretokenizer_find(id)->end(&run, pos);
				assert_true(end > pos && end <= nbytes);
			}
			free(copy);
		}
	}
}

static void test_classes(void **state)
{
	static const struct {
		enum unicode_class class;
		const char *pattern;
	} classes[] = {
	    {UNICODE_LU, "\\p{Lu}"}, {UNICODE_LL, "\\p{Ll}"}, {UNICODE_LT, "\\p{Lt}"}, {UNICODE_LM, "\\p{Lm}"},
	    {UNICODE_LO, "\\p{Lo}"}, {UNICODE_MARK, "\\p{M}"}, {UNICODE_NUMBER, "\\p{N}"},
	    {UNICODE_PUNCTUATION, "\\p{P}"}, {UNICODE_SYMBOL, "\\p{S}"}, {UNICODE_SPACE, "(?!\\x{180e})\\s"},
	};
	char version[32];
	(void)state;
	pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
	if (strncmp(version, "14.0", 4) != 0) {
		print_message("PCRE2 has Unicode %s, the table 14.0: classes not compared\n", version);
		skip();
	}
	pcre2_match_data *match = pcre2_match_data_create(1, NULL);
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		pcre2_code *re = compile(classes[i].pattern);
		for (uint32_t cp = 0; cp < 0x110000; cp++) {
			uint8_t text[4];
			if (cp >= 0xd800 && cp < 0xe000)
				continue;
			size_t nbytes = utf8_put(cp, text);
			bool matches = pcre2_match(re, text, nbytes, 0, PCRE2_NO_UTF_CHECK, match, NULL) > 0;
			struct unicode_char c = utf8_char(text, nbytes);
			assert_int_equal(c.cp, cp);
			assert_int_equal(c.nbytes, nbytes);
			if (matches != (c.class == classes[i].class))
				fail_msg("U+%04X: class %u, %s %s", cp, c.class, classes[i].pattern,
				         matches ? "matches" : "does not match");
		}
		pcre2_code_free(re);
	}
	pcre2_match_data_free(match);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_patterns),
	    cmocka_unit_test(test_any_bytes),
	    cmocka_unit_test(test_classes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The tokenizer on its own ground: prompts of the shipped models, a naive encoder over
 * strings as oracle, exact mode on any bytes, normalization, decoding, special tokens,
 * and blobs and JSON that are damaged.  Runs from the root of the tree.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check_tokenizer.h"

#include "bytes.h"
#include "unicode_tables.h"

#include <jansson.h>

/*
 * Two small tokenizers with everything in them.  SMALL is SentencePiece-style: 3 specials, an
 * added token of each sort, fallback tokens (made by small_json), then characters and merges.
 */
#define SMALL_HEAD \
	"{\"added_tokens\": [" \
	"{\"id\": 0, \"content\": \"<unk>\", \"special\": true}," \
	"{\"id\": 1, \"content\": \"<s>\", \"special\": true}," \
	"{\"id\": 2, \"content\": \"</s>\", \"special\": true, \"rstrip\": true, \"lstrip\": true}," \
	"{\"id\": 290, \"content\": \"<x>\", \"special\": false}," \
	"{\"id\": 292, \"content\": \"<z>\", \"special\": false, \"lstrip\": true}," \
	"{\"id\": 291, \"content\": \"<x><y>\", \"special\": true}]," \
	"\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"▁\"}," \
	"{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"▁\"}]}," \
	"\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}," \
	"{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [1]}}}," \
	"\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, \"byte_fallback\": true," \
	"\"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2, "
#define SMALL_TAIL \
	"\"▁\": 259, \"a\": 260, \"b\": 261, \"c\": 262, \"é\": 263, \"ab\": 264, \"▁a\": 265, \"abab\": 266," \
	"\"▁▁\": 267, \"bc\": 268, \"▁ab\": 269, \"aa\": 270, \"aaaa\": 271, \"éa\": 272, \"<\": 273, \">\": 274," \
	"\"ca\": 275, \"bcab\": 276}," \
	"\"merges\": [\"a b\", \"▁ a\", \"ab ab\", [\"▁\", \"▁\"], \"b c\", \"▁ ab\", \"a a\", \"aa aa\", \"é a\"," \
	"\"▁a b\", \"c a\", \"bc ab\"]}}"

static char *small_json(void)
{
	size_t cap = sizeof(SMALL_HEAD) + sizeof(SMALL_TAIL) + 256 * 32, at;
	char *json = malloc(cap);
	assert_non_null(json);
	at = (size_t)snprintf(json, cap, "%s", SMALL_HEAD);
	for (unsigned b = 0; b < 256; b++)
		at += (size_t)snprintf(json + at, cap - at, "\"<0x%02X>\": %u, ", b, b + 3);
	snprintf(json + at, cap - at, "%s", SMALL_TAIL);
	return json;
}

static struct subject import_small(const char *config, const char *model_config)
{
	char *json = small_json();
	struct subject s = import_text(json, config, model_config);
	free(json);
	return s;
}

/* ---- Against a naive encoder ------------------------------------------------------- */

/* Byte-pair encoding of one SentencePiece text on strings, straight from the JSON. */
static size_t naive_encode(const json_t *model, const char *text, uint32_t *ids)
{
	const json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
	char units[600][64];
	size_t count = 0;
	for (const char *p = text; *p;) {
		size_t n = *p == '\xe2' ? 3 : *p == '\xc3' ? 2 : 1;
		snprintf(units[count], sizeof(units[0]), "%.*s", (int)n, p);
		if (!json_object_get(vocab, units[count])) {
			for (size_t i = 0; i < n; i++, count++)
				snprintf(units[count], sizeof(units[0]), "<0x%02X>", (uint8_t)p[i]);
		} else {
			count++;
		}
		p += n;
	}
	for (size_t rank = 0; rank < json_array_size(merges); rank++) {
		const json_t *merge = json_array_get(merges, rank);
		char pair[64], left[32], right[32];
		const char *string = json_string_value(merge);
		snprintf(pair, sizeof(pair), "%s", string ? string : "▁ ▁");
		snprintf(left, sizeof(left), "%.*s", (int)strcspn(pair, " "), pair);
		snprintf(right, sizeof(right), "%s", strchr(pair, ' ') + 1);
		bool merged = false;
		for (size_t i = 0; i + 1 < count && !merged; i++) {
			if (strcmp(units[i], left) || strcmp(units[i + 1], right))
				continue;
			strcat(units[i], right);
			memmove(units[i + 1], units[i + 2], (count - i - 2) * sizeof(units[0]));
			count--;
			merged = true;
		}
		if (merged)
			rank = (size_t)-1; /* the lowest rank again */
	}
	for (size_t i = 0; i < count; i++)
		ids[i] = (uint32_t)json_integer_value(json_object_get(vocab, units[i]));
	return count;
}

static void test_naive_encoder(void **state)
{
	static const char *const pieces[] = {"a", "a", "b", "ab", "c", "é", "▁", "▁", "▁a", "x", "日", "abab"};
	struct rng rng = {3};
	char *json = small_json();
	json_t *root = json_loads(json, 0, NULL);
	struct subject s = import_text(json, NULL, NULL);
	(void)state;
	assert_non_null(root);
	for (int round = 0; round < 600; round++) {
		char marked[600] = "▁", text[600];
		uint32_t expected[600];
		size_t size = 0;
		/* short words and, by leaving spaces out, long ones: both merge loops */
		unsigned length = 1 + rng_under(&rng, 120), kinds = round % 3 ? 12 : 5;
		for (unsigned i = 0; i < length && strlen(marked) < 500; i++)
			strcat(marked, pieces[rng_under(&rng, kinds)]);
		for (const char *p = marked + 3; *p; p += !strncmp(p, "▁", 3) ? 3 : 1)
			text[size++] = !strncmp(p, "▁", 3) ? ' ' : *p;
		text[size] = '\0';
		size_t count = naive_encode(json_object_get(root, "model"), marked, expected);
		assert_ids(s.t, text, 0, expected, count);
		assert_exact(s.t, text, size);
	}
	json_decref(root);
	free(json);
	close_subject(&s);
}

/* ---- The shipped models ------------------------------------------------------------ */

static void check_prompt(const char *folder)
{
	char path[128];
	size_t nbytes;
	uint32_t expected[64];
	snprintf(path, sizeof(path), "%s/tokenizer.json", folder);
	struct subject s = import_file(path);
	snprintf(path, sizeof(path), "%s/reference.json", folder);
	char *text = read_whole(path, &nbytes);
	assert_non_null(text);
	json_t *reference = json_loads(text, 0, NULL), *list = json_object_get(reference, "prompt_ids");
	const char *prompt = json_string_value(json_object_get(reference, "prompt"));
	assert_non_null(prompt);
	assert_in_range(json_array_size(list), 1, 64);
	for (size_t i = 0; i < json_array_size(list); i++)
		expected[i] = (uint32_t)json_integer_value(json_array_get(list, i));
	assert_ids(s.t, prompt, PITH_ENCODE_BOS, expected, json_array_size(list));
	assert_true(pith_tokenizer_is_lossless(s.t));
	assert_int_equal(pith_tokenizer_find(s.t, "<|endoftext|>", 13), 0);
	assert_true(pith_tokenizer_is_control(s.t, 0));
	json_decref(reference);
	free(text);
	close_subject(&s);
}

static void test_prompts(void **state)
{
	(void)state;
	check_prompt("models/books6m");
	check_prompt("models/tiny1m");
}

static void random_bytes(struct rng *rng, char *text, size_t nbytes)
{
	static const char common[] = "the of and \n\t  <|endoftext|><s></s><x><y>'s 1234 \xe2\x96\x81\xc3\xa9\xcc\x81";
	unsigned style = rng_under(rng, 4);
	for (size_t i = 0; i < nbytes; i++)
		text[i] = style == 0   ? (char)rng_next(rng)
		          : style == 1 ? (char)(0x80 + rng_under(rng, 128))
		          : style == 2 ? common[rng_under(rng, sizeof(common))]
		                       : (char)(i % 7 ? text[i - 1] : common[rng_under(rng, sizeof(common))]);
}

static void test_exact_round_trip(void **state)
{
	struct rng rng = {11};
	struct subject subjects[3] = {import_file("models/books6m/tokenizer.json"),
	                              import_file("models/tiny1m/tokenizer.json"), import_small(NULL, NULL)};
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		for (int round = 0; round < 1500; round++) {
			size_t nbytes = rng_under(&rng, round % 50 ? 80 : 3000);
			char *text = malloc(nbytes + 1);
			random_bytes(&rng, text, nbytes);
			assert_exact(subjects[i].t, text, nbytes);
			/* the other modes take any bytes as well */
			size_t count;
			free(encode_all(subjects[i].t, text, nbytes, PITH_ENCODE_BOS | PITH_ENCODE_SPECIAL, &count));
			free(text);
		}
		close_subject(&subjects[i]);
	}
}

/* A megabyte of one letter must not take quadratic time: it would run for hours. */
static void test_long_words(void **state)
{
	size_t nbytes = (size_t)1 << 20;
	char *text = malloc(nbytes);
	struct subject subjects[2] = {import_file("models/books6m/tokenizer.json"), import_small(NULL, NULL)};
	(void)state;
	assert_non_null(text);
	for (unsigned i = 0; i < 2; i++) {
		memset(text, 'a', nbytes);
		assert_exact(subjects[i].t, text, nbytes);
		memset(text, ' ', nbytes);
		assert_exact(subjects[i].t, text, nbytes);
		for (size_t k = 0; k < nbytes; k++)
			text[k] = "ab"[k % 3 == 0];
		assert_exact(subjects[i].t, text, nbytes);
		close_subject(&subjects[i]);
	}
	free(text);
}

/* ---- Added tokens, prefix, limits -------------------------------------------------- */

#define IDS(...) (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)

static void test_added_tokens(void **state)
{
	struct subject s = import_small(NULL, NULL);
	(void)state;
	assert_ids(s.t, "ab", PITH_ENCODE_BOS, IDS(1, 269));
	assert_ids(s.t, "ab", PITH_ENCODE_EXACT, IDS(264));
	assert_ids(s.t, "▁cb", 0, IDS(267, 262, 261));
	/* EXACT reads no U+2581 as space, and finds added tokens all the same */
	assert_ids(s.t, "▁", PITH_ENCODE_EXACT, IDS(0xe2 + 3, 0x96 + 3, 0x81 + 3));
	assert_ids(s.t, "a<x>a", PITH_ENCODE_EXACT, IDS(260, 290, 260));
	/* each piece between added tokens gets its prefix; the longest added token wins */
	assert_ids(s.t, "b<x>b", 0, IDS(259, 261, 290, 259, 261));
	assert_ids(s.t, "<x><y>", PITH_ENCODE_SPECIAL, IDS(291));
	assert_ids(s.t, "<x><y>", 0, IDS(290, 259, 273, 'y' + 3, 274));
	/* lstrip and rstrip eat white space, U+3000 too; without SPECIAL the text is plain */
	assert_ids(s.t, "b \n</s>\xe3\x80\x80 b", PITH_ENCODE_SPECIAL, IDS(259, 261, 2, 259, 261));
	assert_ids(s.t, "</s>", 0, IDS(259, 273, '/' + 3, 's' + 3, 274));
	assert_ids(s.t, "", PITH_ENCODE_BOS, IDS(1));
	/* one that is not a control token is found always, but not in exact mode if it eats spaces */
	assert_ids(s.t, "a <z>", 0, IDS(265, 292));
	assert_ids(s.t, "a <z>", PITH_ENCODE_EXACT, IDS(260, 259, 273, 'z' + 3, 274));
	close_subject(&s);
}

static void test_config_files(void **state)
{
	static const char config[] = "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"pad_token\": null,"
	                             "\"add_bos_token\": false, \"add_eos_token\": true}";
	(void)state;
	struct subject s = import_small(config, "{\"vocab_size\": 300, \"pad_token_id\": 7}");
	assert_ids(s.t, "ab", PITH_ENCODE_BOS | PITH_ENCODE_EOS, IDS(269, 2));
	assert_int_equal(pith_tokenizer_bos_id(s.t), 1);
	assert_int_equal(pith_tokenizer_unk_id(s.t), 0);
	assert_int_equal(pith_tokenizer_pad_id(s.t), PITH_TOKEN_NONE); /* null is an answer */
	assert_int_equal(pith_tokenizer_vocab_count(s.t), 300);
	assert_true(pith_tokenizer_is_unused(s.t, 299) && !pith_tokenizer_is_unused(s.t, 290));
	close_subject(&s);

	/* added tokens beyond the model's rows are left out */
	s = import_small(NULL, "{\"vocab_size\": 291, \"eos_token_id\": [2, 5], \"pad_token_id\": 7}");
	assert_int_equal(pith_tokenizer_vocab_count(s.t), 291);
	assert_int_equal(pith_tokenizer_eos_id(s.t), 2);
	assert_int_equal(pith_tokenizer_pad_id(s.t), 7);
	assert_int_equal(pith_tokenizer_find(s.t, "<x>", 3), 290);
	assert_int_equal(pith_tokenizer_find(s.t, "<x><y>", 6), PITH_TOKEN_NONE);
	close_subject(&s);
}

static void test_limits_and_arguments(void **state)
{
	struct subject s = import_small(NULL, NULL);
	struct pith_error err;
	uint32_t ids[4] = {9, 9, 9, 9};
	size_t count;
	(void)state;
	assert_int_equal(pith_tokenizer_encode(s.t, "bbb", 3, 0, ids, 2, &count, &err), PITH_E_LIMIT);
	assert_int_equal(count, 4);
	assert_int_equal(ids[1], 261);
	assert_int_equal(ids[2], 9);
	assert_int_equal(pith_tokenizer_encode(s.t, NULL, 0, 0, NULL, 0, &count, &err), PITH_OK);
	assert_int_equal(count, 0);
	assert_int_equal(pith_tokenizer_encode(s.t, "b", 1, PITH_ENCODE_EXACT | PITH_ENCODE_BOS, ids, 4, &count, &err),
	                 PITH_E_ARGUMENT);
	assert_int_equal(pith_tokenizer_encode(s.t, "b", 1, 16, ids, 4, &count, &err), PITH_E_ARGUMENT);
	assert_int_equal(pith_tokenizer_encode(s.t, "b", PITH_ENCODE_MAX_NBYTES + 1, 0, ids, 4, &count, &err),
	                 PITH_E_LIMIT);
	assert_int_equal(pith_tokenizer_encode_bound(s.t, 10, PITH_ENCODE_EXACT), 10);
	assert_int_equal(pith_tokenizer_encode_bound(s.t, SIZE_MAX, 0), SIZE_MAX);
	assert_null(pith_tokenizer_token_bytes(s.t, 5000, &count));
	pith_tokenizer_close(NULL);
	close_subject(&s);
}

/* ---- Byte-level variants ------------------------------------------------------------- */

/* A byte-level vocabulary without all bytes; %s: options of the model, then of the root. */
#define LETTERS \
	"{\"model\": {\"type\": \"BPE\", %s \"vocab\": {\"a\": 0, \"b\": 1, \"Ġ\": 2, \"ab\": 3, \"Ġab\": 4, \"aba\": 5," \
	"\"Ì\": 6, \"ģ\": 7, \"Ã\": 8, \"¡\": 9, \"Ã¡\": 10}, \"merges\": [\"a b\", \"Ġ ab\", \"Ã ¡\"]}, %s" \
	"\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": %s}}"

static struct subject import_letters(const char *model, const char *root, const char *prefix)
{
	char json[1024];
	snprintf(json, sizeof(json), LETTERS, model, root, prefix);
	return import_text(json, NULL, NULL);
}

static void test_byte_level_options(void **state)
{
	struct pith_error err;
	uint32_t ids[8];
	size_t count;
	(void)state;
	/* "aba" is in the vocabulary, but no merge makes it: only ignore_merges finds it */
	struct subject s = import_letters("", "", "false");
	assert_ids(s.t, "aba ab", 0, IDS(3, 0, 4));
	/* a byte without a token is left out of text and an error in exact mode */
	assert_ids(s.t, "axb", 0, IDS(3));
	assert_false(pith_tokenizer_is_lossless(s.t));
	assert_exact(s.t, "ab ab", 5);
	assert_int_equal(pith_tokenizer_encode(s.t, "axb", 3, PITH_ENCODE_EXACT, ids, 8, &count, &err),
	                 PITH_E_UNSUPPORTED);
	/* a + U+0301 stays as it is without NFC */
	assert_ids(s.t, "a\xcc\x81", 0, IDS(0, 6, 7));
	close_subject(&s);

	s = import_letters("\"ignore_merges\": true,", "", "false");
	assert_ids(s.t, "aba ab", 0, IDS(5, 4));
	close_subject(&s);
	s = import_letters("", "", "true");
	assert_ids(s.t, "ab", 0, IDS(4));
	assert_ids(s.t, " ab", 0, IDS(4));
	close_subject(&s);
	s = import_letters("", "\"normalizer\": {\"type\": \"NFC\"},", "false");
	assert_ids(s.t, "a\xcc\x81", 0, IDS(10));
	assert_ids(s.t, "a\xcc\x81", PITH_ENCODE_EXACT, IDS(0, 6, 7));
	close_subject(&s);
}

/* Cases from UAX #15 and the Unicode Standard, as bytes. */
static void test_nfc(void **state)
{
	static const char *const cases[][2] = {
	    {"e\xcc\x81", "\xc3\xa9"},                             /* composes */
	    {"\xe2\x84\xab", "\xc3\x85"},                          /* U+212B ANGSTROM SIGN: singleton */
	    {"\xcd\x84", "\xcc\x88\xcc\x81"},                      /* U+0344: excluded from composition */
	    {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},          /* U+0958: excluded */
	    {"q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87"},            /* marks in canonical order */
	    {"\xe1\xb8\x8b\xcc\xa3", "\xe1\xb8\x8d\xcc\x87"},      /* U+1E0B U+0323 -> U+1E0D U+0307 */
	    {"\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"}, /* Hangul L V T */
	    {"\xea\xb0\x80\xe1\x86\xa8", "\xea\xb0\x81"},          /* Hangul LV T */
	    {"a\xcc\x85\xcc\x81", "a\xcc\x85\xcc\x81"},          /* U+0305 blocks U+0301 */
	    {"\xff" "e\xcc\x81\xcc", "\xff\xc3\xa9\xcc"},          /* bytes outside UTF-8 stay */
	    {"a\xff\xcc\x81", "a\xff\xcc\x81"},                    /* ... and part a letter from its mark */
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t out[64];
		size_t nbytes = unicode_nfc((const uint8_t *)cases[i][0], strlen(cases[i][0]), out);
		assert_int_equal(nbytes, strlen(cases[i][1]));
		assert_memory_equal(out, cases[i][1], nbytes);
	}
	/* a long run of marks is sorted stably: 220 (below) before 230 (above), each in order */
	uint8_t marks[402], out[3 * 402];
	marks[0] = marks[401] = 'q';
	for (size_t i = 0; i < 200; i++)
		memcpy(marks + 1 + 2 * i, i % 2 ? "\xcc\xa5" : i % 4 ? "\xcc\x8a" : "\xcc\x85", 2);
	assert_int_equal(unicode_nfc(marks, 402, out), 402);
	for (size_t i = 0; i < 100; i++) {
		assert_memory_equal(out + 1 + 2 * i, "\xcc\xa5", 2);
		assert_memory_equal(out + 201 + 2 * i, i % 2 ? "\xcc\x8a" : "\xcc\x85", 2);
	}
}

/* ---- Decoding ---------------------------------------------------------------------- */

static void check_decoded(const struct pith_tokenizer *t, const uint32_t *ids, size_t count, const char *expected)
{
	struct pith_text_stream stream = {0};
	struct pith_error err;
	char text[256];
	size_t size = 0, nbytes, bound = pith_tokenizer_decode_bound(t);
	uint8_t *out = malloc(bound);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(pith_tokenizer_decode(t, &stream, ids[i], out, bound, &nbytes, &err), PITH_OK);
		assert_true(nbytes <= bound && size + nbytes < sizeof(text) - 12);
		memcpy(text + size, out, nbytes);
		size += nbytes;
		/* what came so far is whole characters */
		for (size_t at = 0; at < size;) {
			struct unicode_char c = utf8_char((uint8_t *)text + at, size - at);
			assert_int_not_equal(c.cp, UNICODE_BAD);
			at += c.nbytes;
		}
	}
	size += pith_tokenizer_decode_end(&stream, (uint8_t *)text + size);
	text[size] = '\0';
	assert_string_equal(text, expected);
	free(out);
}

static void test_decode(void **state)
{
	struct subject s = import_small(NULL, NULL);
	struct pith_text_stream stream = {0};
	uint8_t out[8];
	size_t nbytes;
	(void)state;
	/* control tokens vanish, the prefix space too, and only the first */
	check_decoded(s.t, IDS(1, 269, 259, 290, 265, 2), "ab <x> a");
	check_decoded(s.t, IDS(267, 260), " a");
	/* U+1F600 byte by byte, then cut short, then bytes that cannot be */
	check_decoded(s.t, IDS(0xf0 + 3, 0x9f + 3, 0x98 + 3, 0x80 + 3, 260), "\xf0\x9f\x98\x80" "a");
	check_decoded(s.t, IDS(260, 0xf0 + 3, 0x9f + 3), "a\xef\xbf\xbd\xef\xbf\xbd");
	check_decoded(s.t, IDS(0xff + 3, 0xc0 + 3, 0x80 + 3, 0xed + 3, 0xa0 + 3, 260),
	              "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" "a");
	check_decoded(s.t, IDS(0xe2 + 3, 260), "\xef\xbf\xbd" "a");
	assert_int_equal(pith_tokenizer_decode(s.t, &stream, 260, out, 8, &nbytes, NULL), PITH_E_ARGUMENT);
	close_subject(&s);
}

/* ---- Damage ------------------------------------------------------------------------ */

/* Use a blob in every way; ids that come out must be in range. */
static void exercise(const uint8_t *blob, size_t nbytes)
{
	static const char text[] = " abab aaaaaa </s><x><y> é日\xff\xe2\x96\x81 bcbcabc<s> "
	                           "abababababababababababababababababababababababababababababababab";
	struct pith_tokenizer *t;
	struct pith_error err = {0};
	uint32_t ids[512];
	uint8_t out[1024];
	size_t count, out_nbytes;
	pith_status status = pith_tokenizer_open(blob, nbytes, &t, &err);
	if (status != PITH_OK) {
		assert_null(t);
		assert_true(err.status == status && err.rule[0] && err.msg[0]);
		return;
	}
	status = pith_tokenizer_check(t, &err);
	assert_true(status == PITH_OK || (status == PITH_E_CORRUPT && err.rule[0]));
	static const unsigned modes[] = {0, PITH_ENCODE_BOS | PITH_ENCODE_EOS | PITH_ENCODE_SPECIAL, PITH_ENCODE_EXACT};
	for (unsigned m = 0; m < 3; m++) {
		status = pith_tokenizer_encode(t, text, sizeof(text) - 1, modes[m], ids, 512, &count, &err);
		for (size_t i = 0; status == PITH_OK && i < count; i++)
			assert_true(ids[i] < pith_tokenizer_vocab_count(t));
	}
	for (uint32_t id = 0; id < pith_tokenizer_vocab_count(t) && id < 400; id++) {
		struct pith_text_stream stream = {0};
		if (pith_tokenizer_decode_bound(t) <= sizeof(out))
			pith_tokenizer_decode(t, &stream, id, out, sizeof(out), &out_nbytes, &err);
		const uint8_t *token = pith_tokenizer_token_bytes(t, id, &count);
		assert_true(!token || (token >= blob && token + count <= blob + nbytes));
	}
	pith_tokenizer_find(t, "<x>", 3);
	pith_tokenizer_close(t);
}

static void test_flipped_bytes(void **state)
{
	struct subject s = import_small(NULL, NULL);
	(void)state;
	for (size_t i = 0; i < s.blob_nbytes; i++) {
		static const uint8_t masks[] = {0x01, 0x80, 0xff};
		for (unsigned m = 0; m < 3; m++) {
			s.blob[i] ^= masks[m];
			exercise(s.blob, s.blob_nbytes);
			s.blob[i] ^= masks[m];
		}
	}
	close_subject(&s);
}

static void test_truncated(void **state)
{
	struct subject s = import_small(NULL, NULL);
	struct pith_tokenizer *t;
	(void)state;
	for (size_t n = 0; n < s.blob_nbytes; n++) {
		uint8_t *copy = malloc(n ? n : 1);
		memcpy(copy, s.blob, n);
		pith_status status = pith_tokenizer_open(copy, n, &t, NULL);
		assert_int_equal(status, n < 128 ? PITH_E_NOT_OURS : PITH_E_CORRUPT);
		free(copy);
	}
	close_subject(&s);
}

/* Offsets restated from spec/tokenizer.md for this blob: 293 tokens, header of 128 bytes. */
static void test_rules(void **state)
{
	struct subject s = import_small(NULL, NULL);
	const uint8_t *p = s.blob;
	size_t tokens = 128 + 4 * 294, bytes = (tokens + 63) / 64 * 64;
	size_t flags = (bytes + load_le32(p + 24) + 63) / 64 * 64, byte_ids = (flags + 293 + 63) / 64 * 64;
	size_t merges = byte_ids + 1024, texts = (merges + 16 * load_le32(p + 32) + 63) / 64 * 64;
	size_t first = (texts + 8 * load_le32(p + 44) + 63) / 64 * 64, added = (first + 4 * 257 + 63) / 64 * 64;
	size_t merge = merges;
	while (load_le32(p + merge) == UINT32_MAX)
		merge += 16;
	const struct {
		size_t off;
		uint8_t value;
		const char *rule;
		pith_status status;
	} cases[] = {
	    {0, 'X', "tokenizer.1", PITH_E_NOT_OURS},    {4, 1, "tokenizer.1", PITH_E_UNSUPPORTED},
	    {8, 2, "tokenizer.2", PITH_E_UNSUPPORTED},   {12, 99, "tokenizer.2", PITH_E_UNSUPPORTED},
	    {12, 1, "tokenizer.2", PITH_E_CORRUPT},      {17, 0x80, "tokenizer.2", PITH_E_UNSUPPORTED},
	    {127, 1, "tokenizer.2", PITH_E_UNSUPPORTED}, {23, 2, "tokenizer.3", PITH_E_CORRUPT},
	    {38, 1, "tokenizer.3", PITH_E_CORRUPT},      {52, 9, "tokenizer.4", PITH_E_CORRUPT},
	    {tokens, 1, "tokenizer.5", PITH_E_CORRUPT},  {128 + 4 * 9 + 2, 1, "tokenizer.6", PITH_E_CORRUPT},
	    {flags + 5, 0x80, "tokenizer.7", PITH_E_CORRUPT}, {flags + 5, 4, "tokenizer.7", PITH_E_CORRUPT},
	    {byte_ids, 4, "tokenizer.8", PITH_E_CORRUPT}, {merge + 12, 4, "tokenizer.9", PITH_E_CORRUPT},
	    {merge + 8, 200, "tokenizer.9", PITH_E_CORRUPT}, {texts, 1, "tokenizer.10", PITH_E_CORRUPT},
	    {first + 4 * 60, 1, "tokenizer.11", PITH_E_CORRUPT}, {added, 3, "tokenizer.11", PITH_E_CORRUPT},
	    {61, 9, "tokenizer.12", PITH_E_CORRUPT},     {flags + 280, 16, "tokenizer.7", PITH_E_CORRUPT},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pith_tokenizer *t;
		struct pith_error err = {0};
		uint8_t old = s.blob[cases[i].off];
		s.blob[cases[i].off] = cases[i].value == old ? (uint8_t)~old : cases[i].value;
		pith_status status = pith_tokenizer_open(s.blob, s.blob_nbytes, &t, &err);
		if (status == PITH_OK)
			status = pith_tokenizer_check(t, &err);
		if (status != cases[i].status || strcmp(err.rule, cases[i].rule) != 0)
			fail_msg("case %zu: status %d rule \"%s\", not %s: %s", i, status, err.rule, cases[i].rule,
			         err.msg);
		pith_tokenizer_close(t);
		s.blob[cases[i].off] = old;
	}
	close_subject(&s);
}

/* Gemma's way: spaces marked by the normalizer, no prefix, a split that never matches. */
static void test_split_at_spaces(void **state)
{
	static const char json[] =
	    "{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"▁\"},"
	    "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \" \"},"
	    "\"behavior\": \"MergedWithPrevious\", \"invert\": false},"
	    "\"model\": {\"type\": \"BPE\", \"unk_token\": \"u\", \"fuse_unk\": true, \"vocab\": {\"u\": 0, \"a\": 1,"
	    "\"▁\": 2, \"▁a\": 3, \"a▁a\": 4}, \"merges\": [\"▁ a\", \"a ▁a\"]}}";
	struct subject s = import_text(json, NULL, NULL);
	(void)state;
	/* a merge crosses a space, so the text stays one pretoken */
	assert_int_equal(load_le32(s.blob + 12), 0);
	assert_ids(s.t, "a a a", 0, IDS(4, 3));
	assert_ids(s.t, " axxa", 0, IDS(3, 0, 1));
	close_subject(&s);
}

/* tokenizer.13 and .14: a token that is not DIRECT, and space-runs with a merge across a space. */
static void test_rules_of_meaning(void **state)
{
	static const char json[] =
	    "{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"never\"},"
	    "\"model\": {\"type\": \"BPE\", \"unk_token\": \"u\", \"vocab\": {\"u\": 0, \"a\": 1, \"▁\": 2, \"a▁\": 3, \"aa\": 4},"
	    "\"merges\": [\"a ▁\"]}}";
	struct subject s = import_text(json, NULL, NULL);
	struct pith_error err;
	(void)state;
	assert_int_equal(load_le32(s.blob + 12), 7);
	assert_ids(s.t, "aa a", 0, IDS(1, 1, 2, 1));
	pith_tokenizer_close(s.t);
	s.blob[12] = 6; /* space-runs */
	assert_int_equal(pith_tokenizer_open(s.blob, s.blob_nbytes, &s.t, &err), PITH_OK);
	assert_int_equal(pith_tokenizer_check(s.t, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "tokenizer.14");
	s.blob[12] = 7;
	pith_tokenizer_close(s.t);
	/* 5 offsets and 9 bytes come before the flags; token 4, "aa", is two tokens */
	s.blob[128 + 64 + 64 + 4] = 16;
	assert_int_equal(pith_tokenizer_open(s.blob, s.blob_nbytes, &s.t, &err), PITH_OK);
	assert_int_equal(pith_tokenizer_check(s.t, &err), PITH_E_CORRUPT);
	assert_string_equal(err.rule, "tokenizer.13");
	close_subject(&s);
}

/* The example of spec/tokenizer.md section 6. */
static void test_spec_example(void **state)
{
	static const char json[] = "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\","
	                           "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}}";
	static const uint32_t header[20] = {0x4b4f5450, 0, 0, 1, 0, 3, 4, 1, 3, 1, 3, 6, 2, 0, 2, UINT32_MAX,
	                                    UINT32_MAX, UINT32_MAX, UINT32_MAX, 0};
	struct subject s = import_text(json, NULL, NULL);
	(void)state;
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(load_le32(s.blob + 4 * i), header[i]);
	assert_memory_equal(s.blob + 0x80, "\0\0\0\0\1\0\0\0\2\0\0\0\4\0\0\0", 16);
	assert_memory_equal(s.blob + 0xc0, "abab", 4);
	assert_memory_equal(s.blob + 0x100, "\x10\x10\x10", 4);
	assert_memory_equal(s.blob + 0x550, "\0\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0", 16);
	close_subject(&s);
}

/* ---- Import ------------------------------------------------------------------------ */

#define BPE(vocab, merges) "\"model\": {\"type\": \"BPE\", \"vocab\": " vocab ", \"merges\": " merges "}"
#define BYTE_LEVEL "\"pre_tokenizer\": {\"type\": \"ByteLevel\"}"

static void test_refused_json(void **state)
{
	static const struct {
		const char *json;
		pith_status status;
		const char *word; /* in the message */
	} cases[] = {
	    {"", PITH_E_CORRUPT, "tokenizer.json"},
	    {"{\"model\": ", PITH_E_CORRUPT, "tokenizer.json"},
	    {"[1]", PITH_E_CORRUPT, "object"},
	    {"{}", PITH_E_UNSUPPORTED, "model type"},
	    {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", PITH_E_UNSUPPORTED, "WordPiece"},
	    {"{\"model\": {\"type\": \"BPE\", \"merges\": []}}", PITH_E_CORRUPT, "vocab"},
	    {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"end_of_word_suffix\": \"</w>\"}}",
	     PITH_E_UNSUPPORTED, "end_of_word_suffix"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": 0}", "7") "}", PITH_E_CORRUPT, "merges"},
	    {"{" BYTE_LEVEL ", " BPE("{}", "[]") "}", PITH_E_UNSUPPORTED, "size"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": \"b\"}", "[]") "}", PITH_E_CORRUPT, "id"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": -1}", "[]") "}", PITH_E_CORRUPT, "id"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": 9999999999}", "[]") "}", PITH_E_CORRUPT, "id"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": 0, \"b\": 0}", "[]") "}", PITH_E_CORRUPT, "one id"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": 0}", "[\"a\"]") "}", PITH_E_CORRUPT, "pair"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": 0}", "[\"a a\"]") "}", PITH_E_CORRUPT, "lacks"},
	    {"{" BYTE_LEVEL ", " BPE("{\"a\": 0}", "[[\"a\"]]") "}", PITH_E_CORRUPT, "pair"},
	    {"{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 1}], " BPE("{\"a\": 0}", "[]") "}", PITH_E_CORRUPT, "added"},
	    {"{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 1, \"content\": \"x\", \"single_word\": true}], "
	     BPE("{\"a\": 0}", "[]") "}", PITH_E_UNSUPPORTED, "single_word"},
	    {"{" BYTE_LEVEL ", \"normalizer\": {\"type\": \"Lowercase\"}, " BPE("{\"a\": 0}", "[]") "}",
	     PITH_E_UNSUPPORTED, "Lowercase"},
	    {"{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": "
	     "{\"Regex\": \"(a+)+$\"}, \"behavior\": \"Isolated\"}, {\"type\": \"ByteLevel\", \"use_regex\": false}]}, "
	     BPE("{\"a\": 0}", "[]") "}", PITH_E_UNSUPPORTED, "(a+)+$"},
	    {"{\"pre_tokenizer\": {\"type\": \"Whitespace\"}, " BPE("{\"a\": 0}", "[]") "}", PITH_E_UNSUPPORTED,
	     "Whitespace"},
	    {"{" BPE("{\"a\": 0}", "[]") "}", PITH_E_UNSUPPORTED, "normalizer"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *blob;
		size_t nbytes;
		struct pith_error err = {0};
		pith_status status = import_tokenizer_json(cases[i].json, strlen(cases[i].json), NULL, 0, &blob,
		                                           &nbytes, &err);
		if (status != cases[i].status || !strstr(err.msg, cases[i].word))
			fail_msg("case %zu: status %d: %s", i, status, err.msg);
		assert_null(blob);
	}
}

/* A damaged tokenizer.json is refused or imported to something sound, whatever byte it is. */
static void test_damaged_json(void **state)
{
	char *json = small_json();
	size_t nbytes = strlen(json);
	(void)state;
	for (size_t i = 0; i < nbytes; i += 3) {
		char old = json[i];
		uint8_t *blob;
		size_t blob_nbytes;
		struct pith_error err = {0};
		json[i] = "\"}[,1\0:"[i % 7];
		if (import_tokenizer_json(json, nbytes, NULL, 0, &blob, &blob_nbytes, &err) != PITH_OK)
			assert_true(err.msg[0] != '\0');
		free(blob);
		json[i] = old;
	}
	free(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_prompts),
	    cmocka_unit_test(test_naive_encoder),
	    cmocka_unit_test(test_exact_round_trip),
	    cmocka_unit_test(test_long_words),
	    cmocka_unit_test(test_added_tokens),
	    cmocka_unit_test(test_config_files),
	    cmocka_unit_test(test_limits_and_arguments),
	    cmocka_unit_test(test_byte_level_options),
	    cmocka_unit_test(test_nfc),
	    cmocka_unit_test(test_decode),
	    cmocka_unit_test(test_flipped_bytes),
	    cmocka_unit_test(test_truncated),
	    cmocka_unit_test(test_rules),
	    cmocka_unit_test(test_split_at_spaces),
	    cmocka_unit_test(test_rules_of_meaning),
	    cmocka_unit_test(test_spec_example),
	    cmocka_unit_test(test_refused_json),
	    cmocka_unit_test(test_damaged_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

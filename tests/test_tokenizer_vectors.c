/*
 * Real vocabularies against ids that the original tokenizers gave.  The data may not ship:
 * PITH_SHARED names the folder that holds it, and without it these tests are skipped.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check_tokenizer.h"

#include <jansson.h>

#define SEPARATOR "\n__ggml_vocab_test__\n"

static const char *shared(void)
{
	const char *folder = getenv("PITH_SHARED");
	if (!folder) {
		print_message("PITH_SHARED is not set: skipped\n");
		skip();
	}
	return folder;
}

static char *read_shared(const char *name, size_t *nbytes)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", shared(), name);
	char *text = read_whole(path, nbytes);
	if (!text) {
		print_message("%s is absent: skipped\n", path);
		skip();
	}
	return text;
}

static struct subject import_shared(const char *name, const char *config_name)
{
	size_t nbytes;
	char *json = read_shared(name, &nbytes);
	char *config = config_name ? read_shared(config_name, &nbytes) : NULL;
	struct subject s = import_text(json, config, NULL);
	free(json);
	free(config);
	return s;
}

/* ---- tokenizer.json from other files ---- */

/* The two little parts of a GGUF file's metadata that are read: a cursor, and strings. */
struct gguf {
	const uint8_t *p, *end;
};

static uint64_t gguf_number(struct gguf *g, unsigned nbytes)
{
	uint64_t v = 0;
	assert_true((size_t)(g->end - g->p) >= nbytes);
	for (unsigned i = 0; i < nbytes; i++)
		v |= (uint64_t)g->p[i] << 8 * i;
	g->p += nbytes;
	return v;
}

static json_t *gguf_string(struct gguf *g)
{
	uint64_t nbytes = gguf_number(g, 8);
	assert_true(nbytes <= (uint64_t)(g->end - g->p));
	json_t *string = json_stringn((const char *)g->p, (size_t)nbytes);
	g->p += nbytes;
	return string ? string : json_string("");
}

static json_t *gguf_value(struct gguf *g, uint64_t type)
{
	static const uint8_t sizes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
	assert_true(type < 13);
	if (type == 8)
		return gguf_string(g);
	if (type != 9)
		return json_integer((json_int_t)gguf_number(g, sizes[type]));
	uint64_t item_type = gguf_number(g, 4), count = gguf_number(g, 8);
	json_t *list = json_array();
	for (uint64_t i = 0; i < count; i++)
		json_array_append_new(list, gguf_value(g, item_type));
	return list;
}

static json_t *gguf_metadata(const char *bytes, size_t nbytes)
{
	struct gguf g = {(const uint8_t *)bytes, (const uint8_t *)bytes + nbytes};
	json_t *metadata = json_object();
	gguf_number(&g, 4 + 4);
	gguf_number(&g, 8);
	for (uint64_t count = gguf_number(&g, 8); count > 0; count--) {
		json_t *key = gguf_string(&g);
		json_object_set_new(metadata, json_string_value(key), gguf_value(&g, gguf_number(&g, 4)));
		json_decref(key);
	}
	return metadata;
}

/* tokenizer.json around a vocabulary; 'rules' is normalizer and pre_tokenizer as JSON. */
static struct subject import_parts(json_t *vocab, json_t *merges, json_t *added, const char *rules)
{
	json_t *root = json_loads(rules, 0, NULL);
	assert_non_null(root);
	json_object_set_new(root, "added_tokens", added);
	json_object_set_new(root, "model", json_pack("{sssoso}", "type", "BPE", "vocab", vocab, "merges", merges));
	char *text = json_dumps(root, 0);
	assert_non_null(text);
	struct subject s = import_text(text, NULL, NULL);
	free(text);
	json_decref(root);
	return s;
}

static struct subject import_gguf(const char *name, const char *rules)
{
	size_t nbytes;
	char *bytes = read_shared(name, &nbytes);
	json_t *metadata = gguf_metadata(bytes, nbytes), *token;
	json_t *types = json_object_get(metadata, "tokenizer.ggml.token_type");
	json_t *vocab = json_object(), *added = json_array();
	size_t id;
	json_array_foreach(json_object_get(metadata, "tokenizer.ggml.tokens"), id, token) {
		json_int_t type = json_integer_value(json_array_get(types, id));
		if (type == 1)
			json_object_set_new(vocab, json_string_value(token), json_integer((json_int_t)id));
		else
			json_array_append_new(added, json_pack("{sOsIsb}", "content", token, "id", (json_int_t)id,
			                                       "special", type == 3));
	}
	json_t *merges = json_incref(json_object_get(metadata, "tokenizer.ggml.merges"));
	struct subject s = import_parts(vocab, merges, added, rules);
	json_decref(metadata);
	free(bytes);
	return s;
}

static struct subject import_merges_txt(const char *folder, const char *rules)
{
	char name[128];
	size_t nbytes;
	snprintf(name, sizeof(name), "%s/vocab.json", folder);
	char *text = read_shared(name, &nbytes);
	json_t *vocab = json_loads(text, 0, NULL), *merges = json_array();
	free(text);
	snprintf(name, sizeof(name), "%s/merges.txt", folder);
	text = read_shared(name, &nbytes);
	for (char *line = text, *end; line && *line; line = end ? end + 1 : NULL) {
		end = strchr(line, '\n');
		if (end)
			*end = '\0';
		if (*line && strncmp(line, "#version", 8) != 0)
			json_array_append_new(merges, json_string(line));
	}
	free(text);
	return import_parts(vocab, merges, json_array(), rules);
}

/* ---- .inp and .out ---- */

static void check_vectors(struct subject s, const char *name)
{
	char path[256];
	size_t nbytes, count = 0;
	snprintf(path, sizeof(path), "tokenizers/vectors/ggml-vocab-%s.gguf.inp", name);
	char *inputs = read_shared(path, &nbytes), *input = inputs;
	snprintf(path, sizeof(path), "tokenizers/vectors/ggml-vocab-%s.gguf.out", name);
	char *outputs = read_shared(path, &nbytes), *output = outputs;
	while (input) {
		char *end = strstr(input, SEPARATOR);
		uint32_t expected[1024];
		size_t expected_count = 0;
		if (end)
			*end = '\0';
		for (char *rest; *output != '\n' && *output != '\0'; output = rest) {
			expected[expected_count++] = (uint32_t)strtoul(output, &rest, 10);
			while (*rest == ' ')
				rest++;
		}
		output++;
		assert_ids(s.t, input, 0, expected, expected_count);
		assert_exact(s.t, input, strlen(input));
		input = end ? end + strlen(SEPARATOR) : NULL;
		count++;
	}
	assert_int_equal(count, 47);
	free(inputs);
	free(outputs);
	close_subject(&s);
}

#define BYTE_LEVEL "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}"
#define NO_REGEX "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"
#define DIGITS "{\"type\": \"Digits\", \"individual_digits\": true}"
#define SPLIT(regex) "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex "\"}, \"behavior\": \"Isolated\", \"invert\": false}"
#define SEQUENCE(steps) "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [" steps "]}}"
#define QWEN2_REGEX \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}" \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static void test_gpt2(void **state)
{
	(void)state;
	check_vectors(import_shared("tokenizers/gpt2/tokenizer.json", NULL), "gpt-2");
}

static void test_gpt_neox(void **state)
{
	(void)state;
	check_vectors(import_shared("tokenizers/gpt-neox-pythia/tokenizer.json", NULL), "mpt");
}

static void test_llama2(void **state)
{
	(void)state;
	check_vectors(import_shared("tokenizers/llama2/tokenizer.json", NULL), "llama-spm");
}

static void test_phi3(void **state)
{
	(void)state;
	check_vectors(import_shared("tokenizers/phi-3/tokenizer.json", NULL), "phi-3");
}

static void test_qwen2(void **state)
{
	(void)state;
	check_vectors(import_merges_txt("tokenizers/qwen2",
	                                "{\"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
	                                "\"pretokenizers\": [" SPLIT(QWEN2_REGEX) ", " NO_REGEX "]}}"),
	              "qwen2");
}

static void test_gguf_vocabularies(void **state)
{
	static const char deepseek[] =
	    SEQUENCE(SPLIT("[\\\\r\\\\n]") ", " SPLIT("\\\\s?\\\\p{L}+") ", " SPLIT("\\\\s?\\\\p{P}+") ", "
	             SPLIT("[一-龥ࠀ-一가-퟿]+") ", " DIGITS ", " NO_REGEX);
	static const char starcoder[] = SEQUENCE(DIGITS ", " BYTE_LEVEL);
	(void)state;
	check_vectors(import_gguf("tokenizers/vectors/ggml-vocab-deepseek-coder.gguf", deepseek), "deepseek-coder");
	check_vectors(import_gguf("tokenizers/vectors/ggml-vocab-starcoder.gguf", starcoder), "starcoder");
	check_vectors(import_gguf("tokenizers/vectors/ggml-vocab-refact.gguf", starcoder), "refact");
}

/* ---- Counts and prompts of the models' references ---- */

static void check_count(const struct subject *s, const char *name, size_t expected)
{
	size_t nbytes, count;
	char *text = read_shared(name, &nbytes);
	free(encode_all(s->t, text, nbytes, 0, &count));
	assert_int_equal(count, expected);
	assert_exact(s->t, text, nbytes);
	free(text);
}

/* "tokens" of reference.json of books6m. */
static void test_text_counts(void **state)
{
	(void)state;
	struct subject s = import_shared("models/books6m/tokenizer.json", NULL);
	check_count(&s, "texts/heldout/docs-peps-00.txt", 61914);
	check_count(&s, "texts/heldout/speeches-us-gov-00.txt", 26293);
	check_count(&s, "texts/wikitext2-test.txt", 388768);
	close_subject(&s);
}

static void test_stories_prompt(void **state)
{
	static const uint32_t expected[] = {1, 403, 407, 261, 378}; /* golden.json */
	(void)state;
	struct subject s = import_shared("models/stories260K-hf/tokenizer.json",
	                                 "models/stories260K-hf/tokenizer_config.json");
	assert_ids(s.t, "Once upon a time", PITH_ENCODE_BOS, expected, 5);
	assert_int_equal(pith_tokenizer_bos_id(s.t), 1);
	assert_int_equal(pith_tokenizer_eos_id(s.t), 2);
	close_subject(&s);
}

static void test_unigram_is_refused(void **state)
{
	size_t nbytes, blob_nbytes;
	uint8_t *blob;
	struct pith_error err;
	(void)state;
	char *json = read_shared("tokenizers/t5-small/tokenizer.json", &nbytes);
	assert_int_equal(import_tokenizer_json(json, nbytes, NULL, 0, &blob, &blob_nbytes, &err), PITH_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "Unigram"));
	assert_null(blob);
	free(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_gpt2),
	    cmocka_unit_test(test_gpt_neox),
	    cmocka_unit_test(test_llama2),
	    cmocka_unit_test(test_phi3),
	    cmocka_unit_test(test_qwen2),
	    cmocka_unit_test(test_gguf_vocabularies),
	    cmocka_unit_test(test_text_counts),
	    cmocka_unit_test(test_stories_prompt),
	    cmocka_unit_test(test_unigram_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

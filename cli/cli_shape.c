/*
 * Synthetic models.  The weights repeat a few MiB of seeded numbers: to kernels and memory they are
 * like any others.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_shape.h"

#include "bytes.h"
#include "convert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATTERN_VALUES ((size_t)1 << 21)
#define TENSOR_HEADER_NBYTES 192u
#define PATH_CAP 1024u
/* Enough for schemes that need a text: what they find in it has no meaning either. */
#define CALIB_SAMPLES 2u
#define CALIB_LENGTH 128u
#define BYTES 256u /* tokens that the tokenizer has */

const struct cli_shape cli_shapes[] = {
	{"tinyllama", 22, 2048, 5632, 32, 4, 64, 32000, 2048, false},
	{"smollm-135m", 30, 576, 1536, 9, 3, 64, 49152, 2048, true},
	{"llama-1b", 16, 2048, 8192, 32, 8, 64, 128256, 2048, true},
	{"llama-7b", 32, 4096, 11008, 32, 32, 128, 32000, 2048, false},
	{"tiny", 2, 128, 256, 4, 2, 32, 512, 256, false},
	{0},
};

bool cli_shape_find(const char *text, struct cli_shape *out)
{
	int used = 0;
	struct cli_shape s = {.name = "custom", .context = 2048};
	for (size_t i = 0; cli_shapes[i].name != NULL; i++)
		if (strcmp(cli_shapes[i].name, text) == 0) {
			*out = cli_shapes[i];
			return true;
		}
	if (strlen(text) > 80 || sscanf(text, "%4" SCNu64 ",%6" SCNu64 ",%7" SCNu64 ",%4" SCNu64 ",%4" SCNu64
	                                ",%7" SCNu64 "%n", &s.blocks, &s.hidden, &s.ffn, &s.heads,
	                                &s.kv_heads, &s.vocab, &used) != 6 || text[used] != '\0')
		return false;
	if (s.heads == 0 || s.kv_heads == 0 || s.hidden % s.heads != 0 || s.heads % s.kv_heads != 0)
		return false;
	s.head_dim = s.hidden / s.heads;
	*out = s;
	return s.blocks > 0 && s.ffn > 0 && s.vocab > 0 && s.head_dim % 2 == 0;
}

/* ---- the checkpoint ---- */

struct checkpoint {
	const struct cli_shape *shape;
	FILE *out;
	const uint8_t *pattern; /* [PATTERN_VALUES] bf16 */
	char *header;
	size_t header_nbytes, header_cap;
	uint64_t off; /* of the next tensor */
};

/* Near to normal, spread 0.02: sums of four uniform bytes. */
static uint8_t *make_pattern(void)
{
	uint8_t *pattern = malloc(2 * PATTERN_VALUES);
	uint64_t state = 1;
	for (size_t i = 0; pattern != NULL && i < PATTERN_VALUES; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		uint64_t r = state >> 32;
		int sum = (int)(r & 255) + (int)(r >> 8 & 255) + (int)(r >> 16 & 255) + (int)(r >> 24 & 255);
		store_le16(pattern + 2 * i, bf16_of_f32((float)(sum - 510) * (0.02f / 148.0f)));
	}
	return pattern;
}

/* m 0: a vector of n ones. */
static void name_tensor(struct checkpoint *c, const char *name, uint64_t m, uint64_t n)
{
	uint64_t nbytes = (m > 0 ? m : 1) * n * 2;
	char dims[48];
	if (m > 0)
		snprintf(dims, sizeof(dims), "%" PRIu64 ",%" PRIu64, m, n);
	else
		snprintf(dims, sizeof(dims), "%" PRIu64, n);
	c->header_nbytes += (size_t)snprintf(
	    c->header + c->header_nbytes, c->header_cap - c->header_nbytes,
	    "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
	    c->header_nbytes > 1 ? "," : "", name, dims, c->off, c->off + nbytes);
	c->off += nbytes;
}

static void write_tensor(struct checkpoint *c, const char *name, uint64_t m, uint64_t n)
{
	uint64_t left = (m > 0 ? m : 1) * n;
	size_t at = (size_t)(left * 31 % PATTERN_VALUES);
	uint8_t one[2];
	(void)name;
	store_le16(one, bf16_of_f32(1.0f));
	if (m == 0) {
		for (; left > 0; left--)
			fwrite(one, 2, 1, c->out);
		return;
	}
	while (left > 0) {
		size_t now = PATTERN_VALUES - at;
		now = now < left ? now : (size_t)left;
		fwrite(c->pattern + 2 * at, 2, now, c->out);
		left -= now;
		at = 0;
	}
}

typedef void tensor_fn(struct checkpoint *c, const char *name, uint64_t m, uint64_t n);

static void each_tensor(struct checkpoint *c, tensor_fn *fn)
{
	const struct cli_shape *s = c->shape;
	const uint64_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
	const struct { const char *suffix; uint64_t m, n; } parts[] = {
		{"input_layernorm", 0, s->hidden}, {"self_attn.q_proj", q, s->hidden},
		{"self_attn.k_proj", kv, s->hidden}, {"self_attn.v_proj", kv, s->hidden},
		{"self_attn.o_proj", s->hidden, q}, {"post_attention_layernorm", 0, s->hidden},
		{"mlp.gate_proj", s->ffn, s->hidden}, {"mlp.up_proj", s->ffn, s->hidden},
		{"mlp.down_proj", s->hidden, s->ffn},
	};
	fn(c, "model.embed_tokens.weight", s->vocab, s->hidden);
	for (uint64_t i = 0; i < s->blocks; i++)
		for (size_t p = 0; p < PITH_ARRAY_LENGTH(parts); p++) {
			char name[96];
			snprintf(name, sizeof(name), "model.layers.%" PRIu64 ".%s.weight", i, parts[p].suffix);
			fn(c, name, parts[p].m, parts[p].n);
		}
	fn(c, "model.norm.weight", 0, s->hidden);
	if (!s->tied)
		fn(c, "lm_head.weight", s->vocab, s->hidden);
}

static bool write_weights(const struct cli_shape *shape, FILE *out, const uint8_t *pattern)
{
	struct checkpoint c = {.shape = shape, .out = out, .pattern = pattern,
	                       .header_cap = (size_t)(shape->blocks * 9 + 4) * TENSOR_HEADER_NBYTES};
	uint8_t nbytes[8];
	c.header = malloc(c.header_cap);
	if (c.header == NULL)
		return false;
	c.header[c.header_nbytes++] = '{';
	each_tensor(&c, name_tensor);
	c.header[c.header_nbytes++] = '}';
	store_le64(nbytes, c.header_nbytes);
	fwrite(nbytes, 8, 1, out);
	fwrite(c.header, 1, c.header_nbytes, out);
	each_tensor(&c, write_tensor);
	free(c.header);
	return ferror(out) == 0;
}

static bool write_config(const struct cli_shape *s, FILE *out)
{
	fprintf(out, "{\"model_type\":\"llama\",\"hidden_size\":%" PRIu64 ",\"intermediate_size\":%" PRIu64
	        ",\"num_hidden_layers\":%" PRIu64 ",\"num_attention_heads\":%" PRIu64
	        ",\"num_key_value_heads\":%" PRIu64 ",\"head_dim\":%" PRIu64 ",\"vocab_size\":%" PRIu64
	        ",\"max_position_embeddings\":%" PRIu64 ",\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,"
	        "\"hidden_act\":\"silu\",\"tie_word_embeddings\":%s}\n", s->hidden, s->ffn, s->blocks,
	        s->heads, s->kv_heads, s->head_dim, s->vocab, s->context, s->tied ? "true" : "false");
	return ferror(out) == 0;
}

/* Bytes as tokens, in the alphabet of byte-level BPE. */
static bool write_tokenizer(FILE *out)
{
	unsigned others = BYTES; /* letters for the bytes that do not print */
	fputs("{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
	      "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},\"decoder\":{\"type\":"
	      "\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{", out);
	for (unsigned byte = 0; byte < BYTES; byte++) {
		bool prints = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
		fprintf(out, "%s\"\\u%04x\":%u", byte > 0 ? "," : "", prints ? byte : others++, byte);
	}
	fputs("}}}\n", out);
	return ferror(out) == 0;
}

static bool write_text(FILE *out)
{
	uint32_t state = 1;
	for (unsigned i = 0; i < 4 * CALIB_SAMPLES * CALIB_LENGTH; i++) {
		state = state * 1664525u + 1013904223u;
		fputc('a' + (int)(state >> 24) % 26, out);
	}
	return ferror(out) == 0;
}

/* Files of the checkpoint, in its folder. */
enum { CONFIG, WEIGHTS, TOKENIZER, TEXT, FILES };
static const char *const file_names[FILES] = {
	[CONFIG] = "config.json", [WEIGHTS] = "model.safetensors", [TOKENIZER] = "tokenizer.json",
	[TEXT] = "calibration.txt",
};

static bool write_checkpoint(const struct cli_shape *shape, char path[FILES][PATH_CAP + 32])
{
	uint8_t *pattern = make_pattern();
	bool good = pattern != NULL;
	for (unsigned f = 0; f < FILES && good; f++) {
		FILE *out = fopen(path[f], "wb");
		good = out != NULL && (f == CONFIG    ? write_config(shape, out)
		                       : f == WEIGHTS ? write_weights(shape, out, pattern)
		                       : f == TEXT    ? write_text(out) : write_tokenizer(out));
		good = (out == NULL || fclose(out) == 0) && good;
		/* a vocabulary without room for the bytes has no tokenizer */
		if (f == TOKENIZER && shape->vocab < BYTES)
			unlink(path[f]);
	}
	free(pattern);
	return good;
}

static void track_temporary(void *ctx, const char *path, bool exists)
{
	(void)ctx;
	if (exists)
		cli_cleanup_add(path);
	else
		cli_cleanup_remove(path);
}

int cli_shape_make(struct cli *cli, const struct cli_shape *shape, const char *scheme, unsigned kv_dtype,
                   const char *target)
{
	char folder[PATH_CAP], path[FILES][PATH_CAP + 32];
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	struct convert_options options = {.scheme = scheme, .kv_dtype = kv_dtype,
	                                  .calib_samples = CALIB_SAMPLES, .calib_length = CALIB_LENGTH,
	                                  .threads = online > 0 && online < 64 ? (unsigned)online : 1};
	struct convert_result result;
	struct pith_error err = {.off = PITH_NO_OFF};
	int code = CLI_OK;
	if (snprintf(folder, sizeof(folder), "%s.XXXXXX", target) >= (int)sizeof(folder) ||
	    mkdtemp(folder) == NULL) {
		cli_say(cli, "%s: cannot make a folder beside it", target);
		return CLI_FAILED;
	}
	for (unsigned f = 0; f < FILES; f++) {
		snprintf(path[f], sizeof(path[f]), "%s/%s", folder, file_names[f]);
		cli_cleanup_add(path[f]);
	}
	if (!write_checkpoint(shape, path)) {
		cli_say(cli, "%s: cannot write a checkpoint there", folder);
		code = CLI_FAILED;
	}
	options.temporary = track_temporary;
	pith_status status = code == CLI_OK ? convert_model(folder, target, &options, &result, &err) : PITH_OK;
	if (status == PITH_E_ARGUMENT && shape->vocab >= BYTES) {
		options.calib = path[TEXT]; /* only when it must: a calibrated conversion takes longer */
		status = convert_model(folder, target, &options, &result, &err);
	}
	if (status != PITH_OK)
		code = cli_fail(cli, target, &err);
	for (unsigned f = 0; f < FILES; f++) {
		unlink(path[f]);
		cli_cleanup_remove(path[f]);
	}
	rmdir(folder);
	return code;
}

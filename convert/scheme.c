/*
 * Schemes as text: method:key=value,...  The table of methods.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include "bytes.h"

#include <pthread.h>

const struct quant_method *const quant_methods[] = {
    &quant_method_bf16, &quant_method_f16, &quant_method_f32, &quant_method_rtn, NULL,
};

static pith_status list_methods(const char *text, size_t nbytes, struct pith_error *err)
{
	char names[100] = "";
	for (size_t i = 0; quant_methods[i]; i++) {
		strncat(names, i > 0 ? ", " : "", sizeof(names) - strlen(names) - 1);
		strncat(names, quant_methods[i]->name, sizeof(names) - strlen(names) - 1);
	}
	return pith_fail(err, PITH_E_ARGUMENT, 0, NULL, "no method \"%.*s\"; methods: %s",
	                 (int)(nbytes < 40 ? nbytes : 40), text, names);
}

/* The option that starts at 'p', and what follows it. */
static const char *next_option(const char *text, const char *p, struct scheme_option *o)
{
	size_t nbytes = strcspn(p, ",");
	const char *equals = memchr(p, '=', nbytes);
	size_t key_nbytes = equals ? (size_t)(equals - p) : nbytes;
	*o = (struct scheme_option){.key = p, .key_nbytes = key_nbytes, .key_off = (size_t)(p - text)};
	o->value = equals ? equals + 1 : p + nbytes;
	o->value_nbytes = equals ? nbytes - key_nbytes - 1 : 0;
	o->value_off = (size_t)(o->value - text);
	return p + nbytes;
}

static pith_status parse_options(const char *text, const char *p, struct scheme *out,
                                 struct pith_error *err)
{
	for (;;) {
		struct scheme_option o;
		p = next_option(text, p, &o);
		if (o.key_nbytes == 0 || o.value_nbytes == 0)
			return pith_fail(err, PITH_E_ARGUMENT, o.key_off, NULL,
			                 "key=value expected at character %zu of \"%.100s\"", o.key_off + 1,
			                 text);
		PITH_TRY(out->method->option(out, &o, err));
		if (*p == '\0')
			return PITH_OK;
		p++;
	}
}

pith_status scheme_parse(const char *text, struct scheme *out, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	size_t nbytes = strcspn(text, ":");
	for (size_t i = 0; quant_methods[i]; i++)
		if (strlen(quant_methods[i]->name) == nbytes &&
		    memcmp(quant_methods[i]->name, text, nbytes) == 0)
			out->method = quant_methods[i];
	if (!out->method)
		return list_methods(text, nbytes, err);
	out->method->defaults(out);
	return text[nbytes] == '\0' ? PITH_OK : parse_options(text, text + nbytes + 1, out, err);
}

bool scheme_option_is(const struct scheme_option *o, const char *name)
{
	return strlen(name) == o->key_nbytes && memcmp(name, o->key, o->key_nbytes) == 0;
}

bool scheme_option_reads(const struct scheme_option *o, const char *value)
{
	return strlen(value) == o->value_nbytes && memcmp(value, o->value, o->value_nbytes) == 0;
}

bool scheme_option_u32(const struct scheme_option *o, uint32_t *out)
{
	uint32_t v = 0;
	if (o->value_nbytes == 0 || o->value_nbytes > 9)
		return false;
	for (size_t i = 0; i < o->value_nbytes; i++) {
		if (o->value[i] < '0' || o->value[i] > '9')
			return false;
		v = 10 * v + (uint32_t)(o->value[i] - '0');
	}
	*out = v;
	return true;
}

void quant_result_free(struct quant_result *r)
{
	for (size_t i = 0; i < r->term_count; i++)
		pith_packed_free(&r->term[i]);
	memset(r, 0, sizeof(*r));
}

/* ---- rows on threads ---- */

#define MAX_THREADS 64u

struct row_share {
	size_t begin, end;
	void (*row)(void *ctx, size_t i);
	void *ctx;
};

static void *run_share(void *arg)
{
	const struct row_share *s = arg;
	for (size_t i = s->begin; i < s->end; i++)
		s->row(s->ctx, i);
	return NULL;
}

void quant_rows(unsigned threads, size_t count, void (*row)(void *ctx, size_t i), void *ctx)
{
	pthread_t id[MAX_THREADS];
	struct row_share share[MAX_THREADS];
	size_t width = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
	width = width < count ? width : count > 0 ? count : 1;
	for (size_t i = 0; i < width; i++)
		share[i] = (struct row_share){count * i / width, count * (i + 1) / width, row, ctx};
	bool running[MAX_THREADS] = {false};
	/* a thread that cannot be had costs time only: its share is done here */
	for (size_t i = 1; i < width; i++)
		running[i] = pthread_create(&id[i], NULL, run_share, &share[i]) == 0;
	for (size_t i = 0; i < width; i++)
		if (!running[i])
			run_share(&share[i]);
	for (size_t i = 1; i < width; i++)
		if (running[i])
			pthread_join(id[i], NULL);
}

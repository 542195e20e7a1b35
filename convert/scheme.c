/*
 * Schemes as text: method:key=value,...+method:...  The table of methods.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "quant.h"

#include "bytes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const struct quant_method *const quant_methods[] = {
    &quant_method_bf16, &quant_method_f16, &quant_method_f32, &quant_method_rtn,
    &quant_method_gptq, &quant_method_owq, &quant_method_spqr,
    &quant_method_llmqat, &quant_method_awq, &quant_method_smoothquant,
    &quant_method_osplus, &quant_method_rptq,
    &quant_method_nf4, &quant_method_fp4, &quant_method_fp6, &quant_method_fp8,
    &quant_method_mofq, &quant_method_ternary, &quant_method_squeezellm, &quant_method_magnitude, &quant_method_wanda, &quant_method_sparsegpt,
    &quant_method_lorc, NULL,
};

/* ---- values ---- */

/* The option at hand: "key=value", or "value" alone, at key_off of the text. */
struct option_text {
	const char *text; /* the whole scheme, for messages */
	const char *method;
	const char *key, *value; /* not NUL-terminated */
	size_t key_nbytes, value_nbytes;
	size_t key_off, value_off;
};

static bool reads(const char *p, size_t nbytes, const char *name)
{
	return strlen(name) == nbytes && memcmp(name, p, nbytes) == 0;
}

static bool parse_integer(const char *p, size_t nbytes, double *out)
{
	*out = 0;
	if (nbytes == 0 || nbytes > 9)
		return false;
	for (size_t i = 0; i < nbytes; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		*out = 10 * *out + (p[i] - '0');
	}
	return true;
}

static bool parse_number(const char *p, size_t nbytes, double *out)
{
	char text[32];
	char *end;
	if (nbytes == 0 || nbytes >= sizeof(text) || (p[0] != '.' && (p[0] < '0' || p[0] > '9')))
		return false;
	memcpy(text, p, nbytes);
	text[nbytes] = '\0';
	*out = strtod(text, &end);
	if (strcmp(end, "%") == 0)
		*out /= 100;
	else if (*end != '\0')
		return false;
	return isfinite(*out);
}

/* The place of the value among 'names', "a|b|c". */
static bool parse_choice(const char *p, size_t nbytes, const char *names, double *out)
{
	for (*out = 0; *names != '\0'; *out += 1) {
		size_t length = strcspn(names, "|");
		if (length == nbytes && memcmp(names, p, nbytes) == 0)
			return true;
		names += length + (names[length] == '|');
	}
	return false;
}

static bool parse_group(const char *p, size_t nbytes, double *out)
{
	if (reads(p, nbytes, "row")) {
		*out = 0;
		return true;
	}
	return parse_integer(p, nbytes, out) &&
	       (*out == 16 || *out == 32 || *out == 64 || *out == 128 || *out == 256);
}

#define PATTERN_RADIX 256.0 /* n:m is stored as n + m * 256, above every share */

static bool parse_sparsity(const char *p, size_t nbytes, double *out)
{
	const char *colon = memchr(p, ':', nbytes);
	if (!colon)
		return parse_number(p, nbytes, out) && *out >= 0 && *out < 1;
	size_t left = (size_t)(colon - p);
	double n, m;
	if (!parse_integer(p, left, &n) || !parse_integer(colon + 1, nbytes - left - 1, &m) || n < 1 ||
	    n >= m || m > 32)
		return false;
	*out = n + m * PATTERN_RADIX;
	return true;
}

bool scheme_sparsity(double value, uint32_t *n, uint32_t *m, double *share)
{
	*n = *m = 0;
	*share = value;
	if (value < PATTERN_RADIX)
		return false;
	*m = (uint32_t)(value / PATTERN_RADIX);
	*n = (uint32_t)(value - *m * PATTERN_RADIX);
	*share = (double)*n / (double)*m;
	return true;
}

static bool parse_value(const struct scheme_key *k, const char *p, size_t nbytes, double *out)
{
	switch (k->type) {
	case SCHEME_INTEGER:
		return parse_integer(p, nbytes, out) && *out >= k->low && *out <= k->high;
	case SCHEME_NUMBER:
		return parse_number(p, nbytes, out) && *out >= k->low && *out <= k->high;
	case SCHEME_CHOICE: return parse_choice(p, nbytes, k->names, out);
	case SCHEME_GROUP: return parse_group(p, nbytes, out);
	case SCHEME_SPARSITY: return parse_sparsity(p, nbytes, out);
	}
	return false;
}

static pith_status bad_value(const struct option_text *o, const struct scheme_key *k,
                             struct pith_error *err)
{
	char expected[100];
	if (k->type == SCHEME_CHOICE)
		snprintf(expected, sizeof(expected), "%s", k->names);
	else if (k->type == SCHEME_GROUP)
		snprintf(expected, sizeof(expected), "16, 32, 64, 128, 256 or row");
	else if (k->type == SCHEME_SPARSITY)
		snprintf(expected, sizeof(expected), "a share such as 50%%, or n:m such as 2:4");
	else
		snprintf(expected, sizeof(expected), "%g..%g", k->low, k->high);
	return pith_fail(err, PITH_E_ARGUMENT, o->value_off, NULL,
	                 "%s: %s is \"%.*s\" at character %zu; expected %s", o->method, k->name,
	                 (int)(o->value_nbytes < 20 ? o->value_nbytes : 20), o->value,
	                 o->value_off + 1, expected);
}

static pith_status bad_key(const struct option_text *o, const struct scheme_link *link,
                           struct pith_error *err)
{
	char names[100] = "";
	int shown = (int)(o->key_nbytes < 40 ? o->key_nbytes : 40);
	const struct scheme_key *k = link->method->keys;
	if (!k)
		return pith_fail(err, PITH_E_ARGUMENT, o->key_off, NULL,
		                 "%s takes no options, \"%.*s\" at character %zu", o->method, shown, o->key,
		                 o->key_off + 1);
	for (size_t i = 0; k[i].name; i++) {
		strncat(names, i > 0 ? ", " : "", sizeof(names) - strlen(names) - 1);
		strncat(names, k[i].name, sizeof(names) - strlen(names) - 1);
	}
	return pith_fail(err, PITH_E_ARGUMENT, o->key_off, NULL,
	                 "%s: no option \"%.*s\" (character %zu); options: %s", o->method, shown, o->key,
	                 o->key_off + 1, names);
}

static pith_status set_option(struct scheme_link *link, const struct option_text *o,
                              struct pith_error *err)
{
	const struct scheme_key *k = link->method->keys;
	for (size_t i = 0; k && k[i].name; i++) {
		if (!reads(o->key, o->key_nbytes, k[i].name))
			continue;
		if (!parse_value(&k[i], o->value, o->value_nbytes, &link->value[i]))
			return bad_value(o, &k[i], err);
		return PITH_OK;
	}
	return link[1].method ? set_option(link + 1, o, err) : bad_key(o, link, err);
}

/* ---- links ---- */

/* The option of 'nbytes' bytes at 'p'; one without '=' is for the method's plain key. */
static pith_status parse_option(const char *text, const char *p, size_t nbytes,
                                struct scheme_link *link, struct pith_error *err)
{
	const char *equals = nbytes > 0 ? memchr(p, '=', nbytes) : NULL;
	const char *plain = link->method->plain_key;
	struct option_text o = {.text = text, .method = link->method->name, .key = p,
	                        .key_off = (size_t)(p - text)};
	o.key_nbytes = equals ? (size_t)(equals - p) : nbytes;
	o.value = equals ? equals + 1 : p + nbytes;
	o.value_nbytes = equals ? nbytes - o.key_nbytes - 1 : 0;
	if (!equals && plain && nbytes > 0) {
		o.value = p;
		o.value_nbytes = nbytes;
		o.key = plain;
		o.key_nbytes = strlen(plain);
	}
	o.value_off = (size_t)(o.value - text);
	if (o.key_nbytes == 0 || o.value_nbytes == 0)
		return pith_fail(err, PITH_E_ARGUMENT, o.key_off, NULL,
		                 "key=value expected at character %zu of \"%.100s\"", o.key_off + 1, text);
	return set_option(link, &o, err);
}

static pith_status list_methods(const char *text, const char *p, size_t nbytes,
                                struct pith_error *err)
{
	char names[140] = "";
	for (size_t i = 0; quant_methods[i]; i++) {
		strncat(names, i > 0 ? ", " : "", sizeof(names) - strlen(names) - 1);
		strncat(names, quant_methods[i]->name, sizeof(names) - strlen(names) - 1);
	}
	return pith_fail(err, PITH_E_ARGUMENT, (uint64_t)(p - text), NULL,
	                 "no method \"%.*s\"; methods: %s", (int)(nbytes < 40 ? nbytes : 40), p, names);
}

static void set_method(struct scheme_link *link, const struct quant_method *method)
{
	link->method = method;
	for (size_t i = 0; method->keys && method->keys[i].name; i++)
		link->value[i] = method->keys[i].value;
}

/* Folds and orders store nothing themselves. */
static bool is_preparation(enum quant_role role)
{
	return role == QUANT_FOLD || role == QUANT_ORDER;
}

/*
 * The link of 'nbytes' bytes at 'p'.  A preparation that ends the text is followed by rtn, which
 * takes the options that it does not know: awq:bits=4 is awq+rtn:bits=4.
 */
static pith_status parse_link(const char *text, const char *p, size_t nbytes,
                              struct scheme_link *link, struct pith_error *err)
{
	const char *colon = nbytes > 0 ? memchr(p, ':', nbytes) : NULL;
	size_t name_nbytes = colon ? (size_t)(colon - p) : nbytes;
	for (size_t i = 0; quant_methods[i]; i++)
		if (reads(p, name_nbytes, quant_methods[i]->name))
			set_method(link, quant_methods[i]);
	if (!link->method)
		return list_methods(text, p, name_nbytes, err);
	if (is_preparation(link->method->role) && p[nbytes] == '\0')
		set_method(link + 1, &quant_method_rtn);
	for (const char *q = colon; q;) {
		size_t left = nbytes - (size_t)(++q - p);
		const char *comma = left > 0 ? memchr(q, ',', left) : NULL;
		PITH_TRY(parse_option(text, q, comma ? (size_t)(comma - q) : left, link, err));
		q = comma;
	}
	return link->method->validate ? link->method->validate(link, err) : PITH_OK;
}

/* Bytes of the link at 'p': up to a '+' with a letter behind it; a name may end in one ("os+"). */
static size_t link_nbytes(const char *p)
{
	size_t nbytes = strcspn(p, "+");
	while (p[nbytes] == '+' && !(p[nbytes + 1] >= 'a' && p[nbytes + 1] <= 'z'))
		nbytes += 1 + strcspn(p + nbytes + 1, "+");
	return nbytes;
}

/* Folds, then orders, then a prune or a quantizer or both, then afters. */
static pith_status check_chain(const struct scheme *s, const char *text, struct pith_error *err)
{
	static const int ranks[] = {[QUANT_FOLD] = 0, [QUANT_ORDER] = 1, [QUANT_PRUNE] = 2,
	                            [QUANT_QUANTIZE] = 3, [QUANT_DENSE] = 3, [QUANT_AFTER] = 4};
	const char *why = NULL;
	bool stores = false;
	for (size_t i = 0; i < s->link_count; i++) {
		enum quant_role role = s->link[i].method->role;
		enum quant_role last = i > 0 ? s->link[i - 1].method->role : QUANT_FOLD;
		if (ranks[role] < ranks[last] || (ranks[role] == ranks[last] && ranks[role] % 4 != 0))
			why = "the order is folds, an order, a pruner, a quantizer, corrections";
		else if (last == QUANT_PRUNE && ranks[role] == 3 && !s->link[i].method->grid)
			why = "a pruner needs a quantizer with an affine grid behind it";
		stores = stores || ranks[role] == 2 || ranks[role] == 3;
	}
	if (!why && !stores)
		why = "there is no method that stores the weight";
	if (why)
		return pith_fail(err, PITH_E_ARGUMENT, 0, NULL, "\"%.100s\": %s", text, why);
	return PITH_OK;
}

pith_status scheme_parse(const char *text, struct scheme *out, struct pith_error *err)
{
	memset(out, 0, sizeof(*out));
	for (const char *p = text;; p++) {
		size_t nbytes = link_nbytes(p);
		if (out->link_count + 1 >= SCHEME_MAX_LINKS)
			return pith_fail(err, PITH_E_ARGUMENT, (uint64_t)(p - text), NULL,
			                 "\"%.100s\": more than %u methods", text, SCHEME_MAX_LINKS - 1);
		PITH_TRY(parse_link(text, p, nbytes, &out->link[out->link_count], err));
		while (out->link[out->link_count].method)
			out->link_count++;
		p += nbytes;
		if (*p == '\0')
			return check_chain(out, text, err);
	}
}

/* ---- printing ---- */

static void append(char *text, size_t cap, const char *more)
{
	strncat(text, more, cap - strlen(text) - 1);
}

static void print_value(const struct scheme_key *k, double value, char text[64])
{
	uint32_t n, m;
	double share;
	if (k->type == SCHEME_CHOICE) {
		const char *p = k->names;
		for (double i = 0; i < value; i++)
			p += strcspn(p, "|") + 1;
		snprintf(text, 64, "%.*s", (int)strcspn(p, "|"), p);
	} else if (k->type == SCHEME_GROUP && value == 0) {
		snprintf(text, 64, "row");
	} else if (k->type == SCHEME_SPARSITY && scheme_sparsity(value, &n, &m, &share)) {
		snprintf(text, 64, "%u:%u", n, m);
	} else {
		snprintf(text, 64, "%.10g", value);
	}
}

void scheme_print(const struct scheme *s, char *text, size_t cap)
{
	text[0] = '\0';
	for (size_t i = 0; i < s->link_count; i++) {
		const struct quant_method *method = s->link[i].method;
		append(text, cap, i > 0 ? "+" : "");
		append(text, cap, method->name);
		for (size_t j = 0; method->keys && method->keys[j].name; j++) {
			char value[64];
			print_value(&method->keys[j], s->link[i].value[j], value);
			append(text, cap, j > 0 ? "," : ":");
			append(text, cap, method->keys[j].name);
			append(text, cap, "=");
			append(text, cap, value);
		}
	}
}

/* ---- questions ---- */

bool scheme_needs_inputs(const struct scheme *s)
{
	for (size_t i = 0; i < s->link_count; i++)
		if (s->link[i].method->needs_inputs ||
		    scheme_activation(&s->link[i]) == PITH_ACTIVATION_INT8_STATIC)
			return true;
	return false;
}

bool scheme_folds(const struct scheme *s)
{
	return s->link_count > 0 && s->link[0].method->role == QUANT_FOLD;
}

bool scheme_quantizes(const struct scheme *s)
{
	return s->link_count != 1 || s->link[0].method->role != QUANT_DENSE;
}

struct scheme scheme_of_table(const struct scheme *s)
{
	struct scheme out = {.link_count = 0};
	bool stores = false;
	for (size_t i = 0; i < s->link_count; i++) {
		enum quant_role role = s->link[i].method->role;
		if (is_preparation(role) || role == QUANT_PRUNE)
			continue;
		stores = stores || role != QUANT_AFTER;
		if (stores)
			out.link[out.link_count++] = s->link[i];
	}
	return out;
}

bool scheme_nbytes(const struct scheme *s, uint64_t m, uint64_t n, uint64_t *nbytes,
                   uint32_t *plane_count, uint32_t *term_count)
{
	*nbytes = 0;
	*plane_count = *term_count = 0;
	for (size_t i = 0; i < s->link_count; i++) {
		const struct quant_method *method = s->link[i].method;
		bool counted = i > 0 && s->link[i - 1].method->role == QUANT_PRUNE &&
		               method->role != QUANT_AFTER;
		uint64_t more = 0;
		uint32_t planes = 0, terms = 0;
		if (method->role == QUANT_FOLD || counted)
			continue;
		if (!method->nbytes(&s->link[i], m, n, &more, &planes, &terms))
			return false;
		*nbytes += more;
		*plane_count += planes;
		*term_count += terms;
	}
	return true;
}

/*
 * A pith_model and its tokenizer as the coder's language model.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "text_archive.h"

#include <stdlib.h>

struct pith_text_coder {
	struct text_lm lm; /* when made of a model */
	const struct pith_model *model;
	const struct pith_tokenizer *tokenizer;
	struct text_coder coder;
};

static const uint8_t *model_token_bytes(const void *ctx, uint32_t id, size_t *nbytes)
{
	const struct pith_text_coder *c = ctx;
	*nbytes = 0;
	// spec text_archive: "Tokens that are control or unused, and ids without an entry in the tokenizer, count as having no bytes."
	if (pith_tokenizer_is_unused(c->tokenizer, id) || pith_tokenizer_is_control(c->tokenizer, id))
		return NULL;
	return pith_tokenizer_token_bytes(c->tokenizer, id, nbytes);
}

static pith_status model_encode(const void *ctx, const uint8_t *text, size_t nbytes, uint32_t *ids,
                                size_t ids_cap, size_t *ids_count, struct pith_error *err)
{
	const struct pith_text_coder *c = ctx;
	return pith_tokenizer_encode(c->tokenizer, (const char *)text, nbytes, PITH_ENCODE_EXACT, ids,
	                             ids_cap, ids_count, err);
}

static size_t model_session_nbytes(const void *ctx, const struct pith_session_options *options)
{
	const struct pith_text_coder *c = ctx;
	return pith_session_nbytes(c->model, options);
}

static pith_status model_session_new(const void *ctx, const struct pith_session_options *options,
                                     void **session, struct pith_error *err)
{
	const struct pith_text_coder *c = ctx;
	struct pith_session *made;
	*session = NULL;
	PITH_TRY(pith_session_new(c->model, options, &made, err));
	*session = made;
	return PITH_OK;
}

static void model_session_free(void *session) { pith_session_free(session); }

static pith_status model_session_step(void *session, const struct pith_row *rows, size_t count,
                                      const float **logits, struct pith_error *err)
{
	return pith_session_step(session, rows, count, logits, err);
}

static size_t model_logit_stride(const void *session) { return pith_session_logit_stride(session); }

static const float *model_session_hidden(const void *session, size_t *stride)
{
	return pith_session_hidden(session, stride);
}

static void model_session_truncate(void *session, size_t sequence, size_t length)
{
	pith_session_truncate(session, sequence, length);
}

pith_status pith_text_coder_new(const struct pith_model *model,
                                const struct pith_tokenizer *tokenizer,
                                struct pith_text_coder **out, struct pith_error *err)
{
	*out = NULL;
	if (!pith_tokenizer_is_lossless(tokenizer))
		return pith_fail(err, PITH_E_UNSUPPORTED, PITH_NO_OFF, NULL,
		                 "the model's vocabulary lacks some bytes, so it cannot code every text");
	struct pith_text_coder *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the text coder");
	struct pith_model_info info;
	pith_model_info(model, &info);
	c->model = model;
	c->tokenizer = tokenizer;
	c->lm = (struct text_lm){
		.ctx = c,
		.vocab_count = (size_t)info.vocab_count,
		.context_length = (size_t)info.context_length,
		.hidden_count = (size_t)info.hidden_count,
		.numerics_version = info.numerics_version,
		.token_bytes = model_token_bytes,
		.encode = model_encode,
		.session_nbytes = model_session_nbytes,
		.session_new = model_session_new,
		.session_free = model_session_free,
		.session_step = model_session_step,
		.logit_stride = model_logit_stride,
		.session_hidden = model_session_hidden,
		.session_truncate = model_session_truncate,
	};
	memcpy(c->lm.identity, info.identity, 16);
	// spec text_archive: "bos_id of the tokenizer, if there is none eos_id, if there is none 0"
	c->lm.start_token = pith_tokenizer_bos_id(tokenizer);
	if (c->lm.start_token >= info.vocab_count)
		c->lm.start_token = pith_tokenizer_eos_id(tokenizer);
	if (c->lm.start_token >= info.vocab_count)
		c->lm.start_token = 0;
	pith_status status = text_coder_new(&c->lm, &c->coder, err);
	if (status != PITH_OK)
		free(c);
	else
		*out = c;
	return status;
}

pith_status pith_text_coder_of_lm(const struct text_lm *lm, struct pith_text_coder **out,
                                  struct pith_error *err)
{
	*out = NULL;
	struct pith_text_coder *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the text coder");
	pith_status status = text_coder_new(lm, &c->coder, err);
	if (status != PITH_OK)
		free(c);
	else
		*out = c;
	return status;
}

void pith_text_coder_free(struct pith_text_coder *coder)
{
	if (coder == NULL)
		return;
	text_coder_free(&coder->coder);
	free(coder);
}

const struct text_coder *pith_text_coder_segment(const struct pith_text_coder *coder)
{
	return &coder->coder;
}

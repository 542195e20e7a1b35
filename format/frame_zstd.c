/*
 * zstd frames of cold sections.  A frame never decides how much is allocated: its
 * content size must be the directory's raw_nbytes, which the caller has bounded.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "frame_zstd.h"

#include <stdlib.h>
#include <zstd.h>

/* Windows of more than 128 MiB are not ours: the writer's level 19 uses 8 MiB. */
enum { MAX_WINDOW_LOG = 27, MAX_RAW_NBYTES = 1 << 30, PIECE_NBYTES = 1 << 17 };

pith_status pith_frame_check(const uint8_t *stored, size_t nbytes, uint64_t raw_nbytes,
                             uint64_t off, struct pith_error *err)
{
	unsigned long long content = ZSTD_getFrameContentSize(stored, nbytes);
	// spec container.21: "one zstd frame that gives its content size, which is raw_nbytes"
	if (content == ZSTD_CONTENTSIZE_ERROR || content == ZSTD_CONTENTSIZE_UNKNOWN)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.21",
		                 "not a zstd frame with a content size");
	// spec container.21: "raw_nbytes at most 2^30"
	if (content != raw_nbytes || raw_nbytes > MAX_RAW_NBYTES)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.21",
		                 "the zstd frame gives %llu bytes, the directory %llu", content,
		                 (unsigned long long)raw_nbytes);
	if (ZSTD_findFrameCompressedSize(stored, nbytes) != nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.21",
		                 "the zstd frame does not fill its section");
	return PITH_OK;
}

uint64_t pith_frame_content_nbytes(const uint8_t *stored, size_t nbytes)
{
	unsigned long long content = ZSTD_getFrameContentSize(stored, nbytes);
	return content == ZSTD_CONTENTSIZE_ERROR || content == ZSTD_CONTENTSIZE_UNKNOWN ? UINT64_MAX : content;
}

pith_status pith_frame_decode(const uint8_t *stored, size_t nbytes, uint8_t *out,
                              size_t raw_nbytes, uint64_t off, struct pith_error *err)
{
	PITH_TRY(pith_frame_check(stored, nbytes, raw_nbytes, off, err));
	size_t got = ZSTD_decompress(out, raw_nbytes, stored, nbytes);
	if (ZSTD_isError(got) || got != raw_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.21",
		                 "the zstd frame does not decode: %s",
		                 ZSTD_isError(got) ? ZSTD_getErrorName(got) : "short");
	return PITH_OK;
}

static pith_status decode_in_pieces(ZSTD_DStream *stream, uint8_t *piece, const uint8_t *stored,
                                    size_t nbytes, uint64_t raw_nbytes, uint64_t off,
                                    struct pith_error *err)
{
	ZSTD_inBuffer in = { stored, nbytes, 0 };
	uint64_t total = 0;
	size_t left = 1;
	while (left != 0) {
		ZSTD_outBuffer out = { piece, PIECE_NBYTES, 0 };
		size_t before = in.pos;
		left = ZSTD_decompressStream(stream, &out, &in);
		total += out.pos;
		bool stuck = left != 0 && out.pos == 0 && in.pos == before;
		if (ZSTD_isError(left) || stuck || total > raw_nbytes)
			return pith_fail(err, PITH_E_CORRUPT, off, "container.21",
			                 "the zstd frame does not decode: %s",
			                 ZSTD_isError(left) ? ZSTD_getErrorName(left) :
			                                      "wrong size");
	}
	if (total != raw_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off, "container.21",
		                 "the zstd frame decodes to %llu bytes, not %llu",
		                 (unsigned long long)total, (unsigned long long)raw_nbytes);
	return PITH_OK;
}

pith_status pith_frame_verify(const uint8_t *stored, size_t nbytes, uint64_t raw_nbytes,
                              uint64_t off, struct pith_error *err)
{
	PITH_TRY(pith_frame_check(stored, nbytes, raw_nbytes, off, err));
	ZSTD_DStream *stream = ZSTD_createDStream();
	uint8_t *piece = malloc(PIECE_NBYTES);
	pith_status status;
	if (stream == NULL || piece == NULL ||
	    ZSTD_isError(ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, MAX_WINDOW_LOG)))
		status = pith_fail(err, PITH_E_MEMORY, off, NULL, "no memory to decode a section");
	else
		status = decode_in_pieces(stream, piece, stored, nbytes, raw_nbytes, off, err);
	free(piece);
	ZSTD_freeDStream(stream);
	return status;
}

pith_status pith_frame_encode(const void *data, size_t nbytes, int level, uint8_t **out,
                              size_t *out_nbytes, struct pith_error *err)
{
	size_t bound = ZSTD_compressBound(nbytes);
	*out = NULL;
	*out_nbytes = 0;
	uint8_t *frame = ZSTD_isError(bound) ? NULL : malloc(bound);
	if (frame == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL,
		                 "no memory to compress %zu bytes", nbytes);
	size_t got = ZSTD_compress(frame, bound, data, nbytes, level);
	if (ZSTD_isError(got)) {
		free(frame);
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "zstd: %s",
		                 ZSTD_getErrorName(got));
	}
	*out = frame;
	*out_nbytes = got;
	return PITH_OK;
}

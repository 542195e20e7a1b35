/*
 * Runs of zstd frames.  The decoder's output is bounded by the segment header, so a frame decides nothing.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "frame_run.h"

#include <zstd.h>

size_t pith_frame_run_bound(size_t nbytes) { return ZSTD_compressBound(nbytes); }

pith_status pith_frame_run_encode(const void *data, size_t nbytes, int level, uint8_t *out,
                                  size_t out_cap, size_t *out_nbytes, struct pith_error *err)
{
	*out_nbytes = 0;
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	if (ctx == NULL)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for zstd");
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, 0);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 0);
	size_t got = ZSTD_compress2(ctx, out, out_cap, data, nbytes);
	ZSTD_freeCCtx(ctx);
	if (ZSTD_isError(got))
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "zstd: %s",
		                 ZSTD_getErrorName(got));
	*out_nbytes = got;
	return PITH_OK;
}

pith_status pith_frame_run_decode(const uint8_t *stored, size_t nbytes, uint8_t *out,
                                  size_t raw_nbytes, uint64_t off, struct pith_error *err)
{
	size_t got = ZSTD_decompress(out, raw_nbytes, stored, nbytes);
	// spec text.7: "The code of method 1 is one or more complete zstd frames"
	if (ZSTD_isError(got) || got != raw_nbytes)
		return pith_fail(err, PITH_E_CORRUPT, off, "text.7", "the zstd frames do not decode: %s",
		                 ZSTD_isError(got) ? ZSTD_getErrorName(got) : "short");
	return PITH_OK;
}

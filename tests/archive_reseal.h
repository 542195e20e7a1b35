/*
 * Text archives whose checksums are put right after their bytes were changed.  Offsets are those of
 * spec/text_archive.md, restated.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TESTS_ARCHIVE_RESEAL_H
#define PITH_TESTS_ARCHIVE_RESEAL_H

#include <stddef.h>
#include <stdint.h>

/* Header, trailer and, where the directory is raw, directory and segments; never outside p: [nbytes]. */
void archive_reseal(uint8_t *p, size_t nbytes);

#endif

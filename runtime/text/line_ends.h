/*
 * Line ends of two bytes: spec/text_archive.md, section 6.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_LINE_ENDS_H
#define PITH_TEXT_LINE_ENDS_H

#include "bytes.h"

/* Are there LFs, and a CR before each?  Counts them. */
bool line_ends_are_crlf(const uint8_t *raw, size_t nbytes, size_t *count);
/* The text without the CR before each LF. */
void line_ends_remove_cr(const uint8_t *raw, size_t nbytes, uint8_t *text);
/* Put a CR before each LF; false when that does not give raw_nbytes bytes. */
bool line_ends_insert_cr(const uint8_t *text, size_t nbytes, uint8_t *raw, size_t raw_nbytes);

#endif

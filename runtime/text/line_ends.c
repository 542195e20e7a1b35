/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "line_ends.h"

bool line_ends_are_crlf(const uint8_t *raw, size_t nbytes, size_t *count)
{
	size_t crlf = 0, lf = 0;
	for (size_t i = 0; i < nbytes; i++) {
		lf += raw[i] == '\n' ? 1 : 0;
		crlf += raw[i] == '\n' && i > 0 && raw[i - 1] == '\r' ? 1 : 0;
	}
	bool only = crlf > 0 && crlf == lf;
	*count = only ? crlf : 0;
	return only;
}

void line_ends_remove_cr(const uint8_t *raw, size_t nbytes, uint8_t *text)
{
	for (size_t i = 0; i < nbytes; i++)
		if (raw[i] != '\r' || i + 1 == nbytes || raw[i + 1] != '\n')
			*text++ = raw[i];
}

bool line_ends_insert_cr(const uint8_t *text, size_t nbytes, uint8_t *raw, size_t raw_nbytes)
{
	size_t to = 0;
	for (size_t i = 0; i < nbytes; i++) {
		size_t need = text[i] == '\n' ? 2 : 1;
		if (need > raw_nbytes - to)
			return false;
		if (need == 2)
			raw[to++] = '\r';
		raw[to++] = text[i];
	}
	return to == raw_nbytes;
}

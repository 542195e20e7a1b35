/*
 * What the read-only commands tell about a weight: its size as stored and a short
 * description of its terms.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_WEIGHT_H
#define PITH_CLI_WEIGHT_H

#include "cli.h"
#include "pith.h"

struct cli_weight {
	struct pith_weight weight;
	char name[256]; /* NUL-terminated copy */
	char shape[64]; /* "4096x256" */
	char terms[160]; /* "permute, affine 4 bits group 128 + sparse 1204 values" */
	uint64_t elements;
	uint64_t nbytes; /* of all planes, those of transforms included */
};

/* Fill *out for weight number i. */
pith_status cli_weight_read(const struct pith_file *file, size_t i, struct cli_weight *out,
                            struct pith_error *err);

/*
 * Bytes of the tables that describe weights (entries, names, canaries): what bits per
 * weight count beside the planes.
 */
uint64_t cli_tables_nbytes(const struct pith_file *file);

/* Bits per weight of a whole file as stored: all planes and the tables; 0 when it cannot be read. */
double cli_stored_bits(const struct pith_file *file);

/* 8 * nbytes / elements; 0 for no elements. */
double cli_bits_per_weight(uint64_t nbytes, uint64_t elements);

/* A value of ARCH as text: "256", "1e-05", "llama"; cut to cap - 1 bytes. */
void cli_arch_text(const struct pith_arch_value *value, char *text, size_t cap);

/* "int8 per 32 columns", "float", "unknown". */
const char *cli_activation_name(uint32_t activation);

#endif

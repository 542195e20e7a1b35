/*
 * Bytes <-> decoded entries of the container's tables (format.h has the structs).
 *
 * Every decode function checks the entry's checksum first, then the rules that the
 * entry can prove about itself; rules that need other tables or the file's size take
 * them as arguments or are the loader's.  'off' is where the entry lies in the file and
 * is used for messages only.  Encode functions write every byte of the entry, checksum
 * included.  Spec: spec/container.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_FORMAT_CONTAINER_H
#define PITH_FORMAT_CONTAINER_H

#include "format.h"

/* Room for a name as messages show it: cut, control characters replaced. */
#define PITH_SHOWN_NAME_NBYTES 96u
/*
 * The name as it may stand in a message: at most 95 bytes, cut at a character, anything that
 * is not printable UTF-8 replaced by '?'.  'name' may be NULL when nbytes is 0.
 */
void pith_show_name(const char *name, size_t nbytes, char out[PITH_SHOWN_NAME_NBYTES]);
/* container.13: 1..255 bytes of UTF-8 without control characters. */
bool pith_name_is_valid(const char *name, size_t nbytes);
/* Four printable characters and NUL. */
void pith_section_id_name(uint32_t id, char name[5]);

/* ---- preamble and header slots (sections 2 and 3) ---- */

/* container.1 and container.2; p: the first 'nbytes' bytes of the file. */
pith_status pith_preamble_check(const uint8_t *p, uint64_t nbytes, struct pith_error *err);
void pith_preamble_encode(uint8_t p[PITH_PREAMBLE_NBYTES]);

enum pith_slot_state { PITH_SLOT_EMPTY, PITH_SLOT_VALID, PITH_SLOT_DAMAGED };
enum pith_slot_state pith_slot_state(const uint8_t p[PITH_SLOT_NBYTES]);
/*
 * Decode a valid slot: version and features first (container.4, container.5), then
 * container.7 and that the directory lies inside the file as the slot gives its size.
 */
pith_status pith_header_decode(const uint8_t *p, uint64_t off, struct pith_header *out,
                               struct pith_error *err);
void pith_header_encode(const struct pith_header *h, uint8_t p[PITH_SLOT_NBYTES]);

/* ---- directory (section 4) ---- */

/* Entry size of a table by its id; 0 for a blob or an unknown section. */
uint32_t pith_section_entry_nbytes(uint32_t section_id);
bool pith_section_is_known(uint32_t section_id);
/* container.9 and container.10 for one entry; order and uniqueness are the caller's. */
pith_status pith_directory_entry_decode(const uint8_t *p, uint64_t off, uint64_t file_nbytes,
                                        struct pith_directory_entry *out, struct pith_error *err);
void pith_directory_entry_encode(const struct pith_directory_entry *e,
                                 uint8_t p[PITH_DIRECTORY_NBYTES]);

/* ---- tables (section 5) ---- */

/* container.12 for any entry of 'nbytes' bytes; 'what' names it in the message. */
pith_status pith_entry_check(const uint8_t *p, size_t nbytes, uint64_t off, const char *what,
                             struct pith_error *err);

pith_status pith_weight_entry_decode(const uint8_t *p, uint64_t off, struct pith_weight_entry *out,
                                     struct pith_error *err);
void pith_weight_entry_encode(const struct pith_weight_entry *e, uint8_t p[PITH_WGHT_NBYTES]);
/* Weight as a matrix: rank 1: [1, dim 0]; else [dim 0, product of the others]. */
void pith_weight_entry_shape(const struct pith_weight_entry *e, uint64_t *m, uint64_t *n);

pith_status pith_term_entry_decode(const uint8_t *p, uint64_t off, struct pith_term_entry *out,
                                   struct pith_error *err);
void pith_term_entry_encode(const struct pith_term_entry *e, uint8_t p[PITH_TERM_NBYTES]);

pith_status pith_transform_entry_decode(const uint8_t *p, uint64_t off,
                                        struct pith_transform_entry *out, struct pith_error *err);
void pith_transform_entry_encode(const struct pith_transform_entry *e,
                                 uint8_t p[PITH_XFRM_NBYTES]);

/* container.15 as far as the extent goes; role, layout and dtype are the term's to check. */
pith_status pith_plane_entry_decode(const uint8_t *p, uint64_t off, uint64_t file_nbytes,
                                    uint32_t tensor_align, struct pith_plane_entry *out,
                                    struct pith_error *err);
void pith_plane_entry_encode(const struct pith_plane_entry *e, uint8_t p[PITH_PLAN_NBYTES]);

/* container.17; a string must lie inside TEXT, which has text_nbytes bytes. */
pith_status pith_arch_entry_decode(const uint8_t *p, uint64_t off, uint64_t text_nbytes,
                                   struct pith_arch_entry *out, struct pith_error *err);
void pith_arch_entry_encode(const struct pith_arch_entry *e, uint8_t p[PITH_ARCH_NBYTES]);

/* container.18 except for the blocks that attention_of and ffn_of name. */
pith_status pith_block_entry_decode(const uint8_t *p, uint64_t off, uint64_t index,
                                    uint64_t weight_count, struct pith_block_entry *out,
                                    struct pith_error *err);
/* The rest of container.18: the blocks that entry 'e', number 'index', names by *_of. */
pith_status pith_block_check_shared(const struct pith_block_entry *e,
                                    const struct pith_block_entry *attention_of,
                                    const struct pith_block_entry *ffn_of, uint64_t index,
                                    uint64_t off, struct pith_error *err);
void pith_block_entry_encode(const struct pith_block_entry *e, uint8_t p[PITH_BLCK_NBYTES]);

/* container.19 */
pith_status pith_canary_entry_decode(const uint8_t *p, uint64_t off, uint64_t weight_count,
                                     struct pith_canary_entry *out, struct pith_error *err);
void pith_canary_entry_encode(const struct pith_canary_entry *e, uint8_t p[PITH_CNRY_NBYTES]);

pith_status pith_lineage_entry_decode(const uint8_t *p, uint64_t off, uint64_t weight_count,
                                      uint64_t text_nbytes, struct pith_lineage_entry *out,
                                      struct pith_error *err);
void pith_lineage_entry_encode(const struct pith_lineage_entry *e, uint8_t p[PITH_LINE_NBYTES]);

#endif

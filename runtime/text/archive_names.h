/*
 * Which member has a name: a crit-bit tree, whose inner nodes each tell names apart by one bit.  The way to a name has
 * at most as many nodes as the name has bits, whatever names a hostile writer chose.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_TEXT_ARCHIVE_NAMES_H
#define PITH_TEXT_ARCHIVE_NAMES_H

#include "text.h"

/* Names are those of 'members', which the caller passes each time and which have no NUL inside. */
struct archive_names {
	struct name_node *nodes; /* [node_count] */
	size_t node_count, node_cap;
	uint32_t root;           /* as name_node.child */
	bool has_root;
};
void archive_names_free(struct archive_names *t);
/* SIZE_MAX when there is none. */
size_t archive_names_find(const struct archive_names *t, const struct pith_archive_member *members,
                          const char *name, size_t nbytes);
/* From now on the name of member i leads to it.  *before: where it led so far, SIZE_MAX: nowhere. */
pith_status archive_names_put(struct archive_names *t, const struct pith_archive_member *members, size_t i,
                              size_t *before, struct pith_error *err);

#endif

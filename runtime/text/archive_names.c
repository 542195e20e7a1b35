/*
 * The tree of names.  Bits count from the highest one of a name's first byte; behind its end all are 0.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "archive_names.h"

#include "bytes.h"

#include <stdlib.h>

#define INNER 0x80000000u /* a child with this bit is a node, others are members */
#define SAME UINT32_MAX

struct name_node {
	uint32_t bit;      /* the first one in which names below differ */
	uint32_t child[2]; /* names where it is 0, and 1 */
};

void archive_names_free(struct archive_names *t)
{
	free(t->nodes);
	*t = (struct archive_names){0};
}

static unsigned byte_at(const char *name, size_t nbytes, size_t i)
{
	return i < nbytes ? (uint8_t)name[i] : 0;
}

static unsigned bit_at(const char *name, size_t nbytes, uint32_t bit)
{
	return byte_at(name, nbytes, bit / 8) >> (7 - bit % 8) & 1u;
}

static uint32_t first_difference(const char *a, size_t a_nbytes, const char *b, size_t b_nbytes)
{
	size_t i = 0, least = a_nbytes < b_nbytes ? a_nbytes : b_nbytes;
	while (i < least && a[i] == b[i])
		i++;
	if (i == a_nbytes && i == b_nbytes)
		return SAME;
	uint32_t bit = (uint32_t)(8 * i);
	for (unsigned odd = byte_at(a, a_nbytes, i) ^ byte_at(b, b_nbytes, i); (odd & 0x80) == 0; odd <<= 1)
		bit++;
	return bit;
}

/* The way of a name down to a member, or to the first node that looks at bit 'end' or one behind it. */
static uint32_t *descend(const struct archive_names *t, uint32_t *from, const char *name, size_t nbytes,
                         uint32_t end)
{
	uint32_t *at = from;
	while ((*at & INNER) != 0 && t->nodes[*at & ~INNER].bit < end) {
		struct name_node *node = &t->nodes[*at & ~INNER];
		at = &node->child[bit_at(name, nbytes, node->bit)];
	}
	return at;
}

size_t archive_names_find(const struct archive_names *t, const struct pith_archive_member *members,
                          const char *name, size_t nbytes)
{
	uint32_t root = t->root;
	if (!t->has_root)
		return SIZE_MAX;
	const uint32_t i = *descend(t, &root, name, nbytes, SAME);
	const struct pith_archive_member *m = &members[i];
	return m->name_nbytes == nbytes && memcmp(m->name, name, nbytes) == 0 ? i : SIZE_MAX;
}

pith_status archive_names_put(struct archive_names *t, const struct pith_archive_member *members, size_t i,
                              size_t *before, struct pith_error *err)
{
	const char *name = members[i].name;
	size_t nbytes = members[i].name_nbytes;
	*before = SIZE_MAX;
	if (!t->has_root) {
		t->root = (uint32_t)i;
		t->has_root = true;
		return PITH_OK;
	}
	if (t->node_count == t->node_cap) {
		size_t cap = 2 * t->node_cap + 64;
		struct name_node *grown = realloc(t->nodes, cap * sizeof(*grown));
		if (grown == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory for the directory");
		t->nodes = grown;
		t->node_cap = cap;
	}
	uint32_t *leaf = descend(t, &t->root, name, nbytes, SAME);
	uint32_t bit = first_difference(name, nbytes, members[*leaf].name, members[*leaf].name_nbytes);
	if (bit == SAME) {
		*before = *leaf;
		*leaf = (uint32_t)i;
		return PITH_OK;
	}
	uint32_t *at = descend(t, &t->root, name, nbytes, bit);
	unsigned side = bit_at(name, nbytes, bit);
	struct name_node *node = &t->nodes[t->node_count];
	node->bit = bit;
	node->child[side] = (uint32_t)i;
	node->child[1 - side] = *at;
	*at = INNER | (uint32_t)t->node_count++;
	return PITH_OK;
}

/*
 * What is missing from an archive: gathered while it is read, told at the end.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli_archive.h"

#include "bytes.h"

#include <jansson.h>
#include <stdlib.h>

pith_status cli_damage_add(struct cli_damage *d, size_t member, uint64_t off, uint64_t nbytes,
                           const struct pith_error *why, struct pith_error *err)
{
	struct cli_loss *last = d->count > 0 ? &d->loss[d->count - 1] : NULL;
	bool same_member = last != NULL && last->member == member;
	d->nbytes += nbytes;
	if (same_member && nbytes > 0 && last->nbytes > 0 && last->off + last->nbytes == off) {
		last->nbytes += nbytes;
		return PITH_OK;
	}
	cli_fail(d->cli, d->archive->path, why);
	if (d->count == d->cap) {
		size_t cap = 2 * d->cap + 16;
		struct cli_loss *grown = realloc(d->loss, cap * sizeof(*grown));
		if (grown == NULL)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory");
		d->loss = grown;
		d->cap = cap;
	}
	d->members += !same_member && member != SIZE_MAX ? 1 : 0;
	d->loss[d->count++] = (struct cli_loss){member, off, nbytes};
	return PITH_OK;
}

static const char *name_of(const struct cli_damage *d, size_t member)
{
	return member == SIZE_MAX ? "" : pith_archive_member_at(d->archive->archive, member)->name;
}

void cli_damage_say(const struct cli_damage *d)
{
	for (size_t i = 0; i < d->count; i++) {
		const struct cli_loss *l = &d->loss[i];
		char *name = cli_printable(name_of(d, l->member));
		const char *what = l->member == SIZE_MAX ? "content of no member" : name != NULL ? name : "";
		if (l->nbytes > 0)
			cli_say(d->cli, "%s: bytes %llu to %llu are lost", what, (unsigned long long)l->off,
			        (unsigned long long)(l->off + l->nbytes - 1));
		else
			cli_say(d->cli, "%s: what follows byte %llu, if anything, is lost", what,
			        (unsigned long long)l->off);
		free(name);
	}
}

json_t *cli_damage_json(const struct cli_damage *d)
{
	json_t *members = json_array();
	for (size_t i = 0; i < d->count;) {
		size_t member = d->loss[i].member;
		bool open_ended = false;
		json_t *lost = json_array();
		for (; i < d->count && d->loss[i].member == member; i++) {
			open_ended = open_ended || d->loss[i].nbytes == 0;
			if (d->loss[i].nbytes > 0)
				json_array_append_new(lost, json_pack("{s:I, s:I}", "off", (json_int_t)d->loss[i].off, "nbytes",
				                                      (json_int_t)d->loss[i].nbytes));
		}
		json_t *name = member == SIZE_MAX ? json_null() : cli_json_name(name_of(d, member));
		json_array_append_new(members, json_pack("{s:o, s:o, s:b}", "name", name, "lost", lost, "open_ended",
		                                         (int)open_ended));
	}
	return members;
}

void cli_damage_free(struct cli_damage *d)
{
	free(d->loss);
	d->loss = NULL;
	d->count = d->cap = 0;
}

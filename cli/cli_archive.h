/*
 * What unzip, test, list and cat share: opening an archive by name, choosing members, the
 * model that their segments need, and telling what is damaged.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_ARCHIVE_H
#define PITH_CLI_ARCHIVE_H

#include "cli.h"
#include "cli_model.h"
#include "text.h"

struct cli_archive {
	const char *path;
	int fd;
	struct pith_archive *archive;
	struct pith_archive_info info;
	int fault;      /* CLI_DAMAGED when the archive is not whole, yet its members could be had; else CLI_OK */
	bool *selected; /* [member_count]; NULL: all */
	/* cli_archive_need_model(): */
	void *embedded; /* mapping of header and model */
	size_t embedded_nbytes;
	char model_path[4096];
	struct cli_model model;
	struct pith_text_coder *coder;
	struct pith_team *team;
};

/*
 * Open 'path' ("-": stdin, copied to a temporary file first when it cannot seek); 'recover': also when its directory
 * is lost.  Says what is wrong and returns an exit code, or CLI_OK.  Close it in both cases.
 */
int cli_archive_open(struct cli *cli, const char *path, bool recover, struct cli_archive *out);
void cli_archive_close(struct cli_archive *a);
/* For pith_archive_open(): ctx is an int, the descriptor. */
pith_status cli_archive_read_at(void *ctx, uint64_t off, void *data, size_t nbytes, struct pith_error *err);

/* Select members by name; a directory selects what is in it, a hard link its file.  count 0: all. */
int cli_archive_select(struct cli *cli, struct cli_archive *a, char **names, size_t count);

/*
 * Open team and, if what is selected needs it, the model: the one named, else the one inside the archive, the embedded one
 * of the program, or models/<identity>.pith here or where pith is installed.
 */
int cli_archive_need_model(struct cli *cli, struct cli_archive *a, const char *model,
                           uint64_t threads, bool no_verify);

/* The archive's model and a coder with it, whether a segment needs them or not. */
int cli_archive_open_model(struct cli *cli, struct cli_archive *a, const char *model);

/* The name as JSON: as it is when it is UTF-8, else printable. */
struct json_t *cli_json_name(const char *name);

/* ---- damage ---- */

struct cli_damage {
	struct cli *cli;
	const struct cli_archive *archive;
	struct cli_loss {
		size_t member; /* SIZE_MAX: content of no member */
		uint64_t off, nbytes; /* nbytes 0: open-ended */
	} *loss;               /* [count]: adjacent ranges are one */
	size_t count, cap;
	uint64_t members, nbytes; /* how many are damaged; content lost */
};
/* The 'lost' of pith_archive_read_options with its own ctx; says the first fault of each range. */
pith_status cli_damage_add(struct cli_damage *d, size_t member, uint64_t off, uint64_t nbytes,
                           const struct pith_error *why, struct pith_error *err);
/* Say for each member which bytes are missing. */
void cli_damage_say(const struct cli_damage *d);
/* [{"name": .., "lost": [{"off": .., "nbytes": ..}], "open_ended": ..}] */
struct json_t *cli_damage_json(const struct cli_damage *d);
void cli_damage_free(struct cli_damage *d);

#endif

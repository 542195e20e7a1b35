/*
 * Starting, timed.  Eviction: POSIX_FADV_DONTNEED asks for it, mincore() shows what became of it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE /* mincore */
#endif

#include "cli_start.h"

#include "cli_model.h"
#include "cli_probe.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int first_logits(struct cli *cli, const char *path, bool no_verify,
                        const struct pith_executor *executor)
{
	const struct pith_session_options options = {.sequence_count = 1, .context_length = 1,
	                                             .batch_count = 1, .executor = executor};
	const struct pith_row row = {0, 0, true};
	struct pith_session *s = NULL;
	struct pith_error err;
	struct cli_model m;
	int code = cli_model_open(cli, path, &(struct cli_model_options){.no_verify = no_verify}, &m);
	if (code == CLI_OK && (pith_session_new(m.model, &options, &s, &err) != PITH_OK ||
	                       pith_session_step(s, &row, 1, NULL, &err) != PITH_OK))
		code = cli_fail(cli, m.path, &err);
	pith_session_free(s);
	cli_model_close(&m);
	return code;
}

static int read_planes(struct cli *cli, const char *path, const struct pith_executor *executor)
{
	struct pith_file *file;
	struct pith_error err;
	if (pith_file_open(path, PITH_OPEN_NO_VERIFY, &file, &err) != PITH_OK)
		return cli_fail(cli, path, &err);
	const struct cli_probe probe = cli_probe_of(file);
	if (probe.data != NULL)
		cli_probe_read(&probe, executor, CLI_PROBE_PLAIN);
	pith_file_close(file);
	return CLI_OK;
}

int cli_start_once(struct cli *cli, const char *path, enum cli_start what,
                   const struct pith_executor *executor, double *seconds)
{
	double start = cli_seconds();
	int code = what == CLI_START_READ
	               ? read_planes(cli, path, executor)
	               : first_logits(cli, path, what == CLI_START_UNCHECKED, executor);
	*seconds = cli_seconds() - start;
	return code;
}

/* Pages of the file that are in memory; SIZE_MAX: unknown. */
static size_t count_resident(int fd, size_t nbytes, size_t page)
{
	size_t pages = (nbytes + page - 1) / page, resident = 0;
	unsigned char *in_memory = malloc(pages);
	void *map = mmap(NULL, nbytes, PROT_READ, MAP_SHARED, fd, 0);
	if (in_memory == NULL || map == MAP_FAILED || mincore(map, nbytes, in_memory) != 0)
		resident = SIZE_MAX;
	for (size_t i = 0; resident != SIZE_MAX && i < pages; i++)
		resident += in_memory[i] & 1;
	if (map != MAP_FAILED)
		munmap(map, nbytes);
	free(in_memory);
	return resident;
}

bool cli_start_evict(const char *path)
{
	struct stat st;
	long page = sysconf(_SC_PAGESIZE);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool out = fd >= 0 && page > 0 && fstat(fd, &st) == 0 && st.st_size > 0 &&
	           posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0;
	if (out) {
		size_t resident = count_resident(fd, (size_t)st.st_size, (size_t)page);
		out = resident <= (size_t)st.st_size / (size_t)page / 100;
	}
	if (fd >= 0)
		close(fd);
	return out;
}

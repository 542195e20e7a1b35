/*
 * pith verify: every checksum, entry and rule of a .pith file, then its canaries.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include "pith.h"
#include "pithrun.h"

#include <inttypes.h>
#include <jansson.h>

struct verify_options {
	bool json, quiet;
	uint64_t threads;
};

static const struct cli_option verify_table[] = {
    {"threads", 'j', CLI_COUNT, offsetof(struct verify_options, threads), "N",
     "threads to use; 0 (default): all cores"},
    {"quiet", 'q', CLI_FLAG, offsetof(struct verify_options, quiet), NULL,
     "print faults only"},
    {"json", 0, CLI_FLAG, offsetof(struct verify_options, json), NULL, "print JSON"},
    {0},
};

struct verification {
	const char *path;
	json_t *faults; /* NULL: print them */
	size_t fault_count;
	uint64_t canary_count;
	struct cli_progress progress;
	pith_status worst; /* first status found that is not PITH_OK */
};

static void report_fault(void *ctx, const struct pith_error *fault)
{
	struct verification *v = ctx;
	v->fault_count++;
	if (v->worst == PITH_OK)
		v->worst = fault->status;
	if (v->faults != NULL) {
		json_t *off = fault->off != PITH_NO_OFF ? json_integer((json_int_t)fault->off)
		                                        : json_null();
		json_array_append_new(v->faults,
		                      json_pack("{s:s, s:s, s:o, s:s}", "status",
		                                pith_status_name(fault->status), "rule",
		                                fault->rule, "offset", off, "message", fault->msg));
		return;
	}
	printf("%s: %s", v->path, fault->msg);
	if (fault->rule[0] != '\0')
		printf(" (rule %s%s", fault->rule, fault->off != PITH_NO_OFF ? ", " : ")");
	else if (fault->off != PITH_NO_OFF)
		printf(" (");
	if (fault->off != PITH_NO_OFF)
		printf("offset %" PRIu64 ")", fault->off);
	putchar('\n');
}

static void report_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct verification *v = ctx;
	v->progress.total = total;
	cli_progress_update(&v->progress, done);
}

#define BATCH 64u

/* Weights first .. first + BATCH - 1, each checked by one task. */
struct canary_batch {
	const struct pith_file *file;
	size_t first;
	bool present[BATCH];
	struct pith_error err[BATCH];
};

static void check_canary(void *arg, size_t i)
{
	struct canary_batch *batch = arg;
	struct pith_weight weight;
	struct pith_canary canary;
	struct pith_error *err = &batch->err[i];
	err->status = PITH_OK;
	batch->present[i] = false;
	if (pith_file_weight_at(batch->file, batch->first + i, &weight, err) != PITH_OK)
		return;
	pith_status status = pith_file_canary(batch->file, batch->first + i, &canary, err);
	if (status == PITH_E_NOT_FOUND)
		err->status = PITH_OK;
	if (status != PITH_OK)
		return;
	batch->present[i] = true;
	err->status = PITH_OK;
	if (pith_canary_check(&weight, err) == PITH_OK)
		err->status = PITH_OK;
}

static pith_status check_canaries(const struct pith_file *file, size_t threads,
                                  struct verification *v, struct pith_error *err)
{
	struct pith_file_info info;
	struct canary_batch batch = {.file = file};
	struct pith_team *team;
	pith_file_info(file, &info);
	pith_status status = pith_team_new(threads, &team, err);
	if (status != PITH_OK)
		return status;
	const struct pith_executor *executor = pith_team_executor(team);
	cli_progress_start(&v->progress, "canaries", "weights", info.weight_count);
	for (; batch.first < info.weight_count; batch.first += BATCH) {
		size_t count = (size_t)info.weight_count - batch.first;
		count = count < BATCH ? count : BATCH;
		executor->run(executor, check_canary, &batch, count);
		for (size_t i = 0; i < count; i++) {
			v->canary_count += batch.present[i];
			if (batch.err[i].status != PITH_OK)
				report_fault(v, &batch.err[i]);
		}
		cli_progress_update(&v->progress, batch.first + count);
	}
	cli_progress_end(&v->progress);
	pith_team_free(team);
	return PITH_OK;
}

/* 'file' NULL: it could not be opened; the fault has been reported. */
static int finish(struct verification *v, const struct pith_file *file, bool quiet)
{
	struct pith_file_info info = {0};
	char identity[33], size[16];
	int code = v->fault_count == 0 ? CLI_OK : cli_exit_code(v->worst);
	if (file != NULL)
		pith_file_info(file, &info);
	cli_format_digest(info.model_identity, identity);
	if (v->faults != NULL) {
		int printed = cli_print_json(
		    json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:s, s:O}", "file", v->path, "ok",
		              v->fault_count == 0, "file_bytes", (json_int_t)info.file_nbytes,
		              "weights", (json_int_t)info.weight_count, "canaries",
		              (json_int_t)v->canary_count, "fault_count",
		              (json_int_t)v->fault_count, "identity",
		              file != NULL ? identity : "", "faults", v->faults));
		return code != CLI_OK ? code : printed;
	}
	if (v->fault_count > 0)
		printf("%s: %zu fault%s\n", v->path, v->fault_count, v->fault_count > 1 ? "s" : "");
	else if (!quiet)
		printf("%s: ok: %s, %" PRIu64 " weights, %" PRIu64 " canaries, identity %s\n",
		       v->path, cli_format_size(info.file_nbytes, size), info.weight_count,
		       v->canary_count, identity);
	return code;
}

static int verify_run(struct cli *cli, const void *options)
{
	const struct verify_options *o = options;
	struct verification v = {.path = cli->operand[0]};
	struct pith_verify_options checks = {
	    .threads = (unsigned)(o->threads < 1024 ? o->threads : 1024),
	    .fault = report_fault,
	    .progress = report_progress,
	    .ctx = &v};
	struct pith_file *file;
	struct pith_error err;
	if (o->json)
		v.faults = json_array();
	pith_status status = pith_file_open(v.path, 0, &file, &err);
	if (status != PITH_OK) {
		int code = status == PITH_E_CORRUPT ? CLI_DAMAGED : cli_fail(cli, v.path, &err);
		if (status == PITH_E_CORRUPT) {
			report_fault(&v, &err);
			code = finish(&v, NULL, o->quiet);
		}
		json_decref(v.faults);
		return code;
	}
	cli_progress_start(&v.progress, "verify", "B", 0);
	status = pith_file_verify(file, &checks, NULL, &err);
	cli_progress_end(&v.progress);
	/* A fault that is not one of the file (no memory) was not reported as one. */
	if (status != PITH_OK && v.fault_count == 0)
		report_fault(&v, &err);
	if (v.fault_count == 0 && check_canaries(file, o->threads, &v, &err) != PITH_OK)
		report_fault(&v, &err);
	int code = finish(&v, file, o->quiet);
	json_decref(v.faults);
	pith_file_close(file);
	return code;
}

const struct cli_command cmd_verify = {
    .name = "verify",
    .summary = "check every checksum, rule and canary of a .pith file",
    .synopsis = "FILE [-j N] [-q] [--json]",
    .description =
        "Checks, in parallel, every section, table entry and weight of the file against\n"
        "its checksum and the rules of the format, and, when all of that holds, the\n"
        "canaries: what the first and last rows of each weight give for a known input.\n"
        "Every fault is printed with the weight or section it is in and the byte range.\n"
        "Exit code 3 when there is one.\n"
        "\n"
        "JSON keys: file, ok, file_bytes, weights, canaries, fault_count, identity,\n"
        "faults (status, rule, offset, message).\n",
    .examples = "pith verify model.pith\npith verify -q model.pith && echo good\n"
                "pith verify --json model.pith",
    .options = verify_table,
    .options_nbytes = sizeof(struct verify_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = verify_run,
};

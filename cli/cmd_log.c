/*
 * pith log: the lineage of a .pith file.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"

#include "format.h"
#include "pith.h"

#include <jansson.h>
#include <string.h>

struct log_options {
	bool json, verbose, rules;
};

static const struct cli_option log_table[] = {
    {"json", 0, CLI_FLAG, offsetof(struct log_options, json), NULL, "print JSON"},
    {"verbose", 'v', CLI_FLAG, offsetof(struct log_options, verbose), NULL,
     "list the measured error of every weight"},
    {"rules", 0, CLI_FLAG, offsetof(struct log_options, rules), NULL,
     "print the recipe's rules only, as pith convert --rules takes them"},
    {0},
};

/* Indexed by enum pith_lineage_kind. */
static const char *const kind_names[] = {"?",           "source", "recipe",       "tool", "library",
                                         "calibration", "parent", "weight error", "note"};

static const char *kind_name(uint32_t kind)
{
	return kind < sizeof(kind_names) / sizeof(kind_names[0]) ? kind_names[kind] : "unknown";
}

/* "" when the digest is all zero; text: 65 bytes. */
static const char *sha256_text(const uint8_t digest[32], char text[65])
{
	bool any = false;
	for (size_t i = 0; i < 32; i++) {
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
		any |= digest[i] != 0;
	}
	return any ? text : "";
}

/* Name of the weight an entry is about; "" for the whole model. */
static void weight_name(const struct pith_file *file, uint32_t weight, char name[256])
{
	struct pith_weight w;
	name[0] = '\0';
	if (weight != 0 && pith_file_weight_at(file, weight - 1, &w, NULL) == PITH_OK)
		snprintf(name, 256, "%.*s", (int)w.name_nbytes, w.name);
}

struct error_totals {
	size_t count;
	double sum, worst;
	char worst_name[256];
};

static void print_entry(const struct pith_lineage *entry, const char *name)
{
	char sha256[65];
	const char *digest = sha256_text(entry->digest, sha256);
	printf("%-13s %.*s", kind_name(entry->kind), (int)entry->key_nbytes, entry->key);
	if (entry->value_nbytes > 0)
		printf("%s%.*s", entry->key_nbytes > 0 ? "  " : "", (int)entry->value_nbytes,
		       entry->value);
	if (name[0] != '\0')
		printf("%s%s", entry->key_nbytes + entry->value_nbytes > 0 ? "  " : "", name);
	if (entry->kind == PITH_LINEAGE_WEIGHT_ERROR)
		printf("  relative error %.3e, %.3f bits per weight", entry->number[0],
		       entry->number[1]);
	if (digest[0] != '\0')
		printf("  sha256 %s", digest);
	putchar('\n');
}

static json_t *entry_json(const struct pith_lineage *entry, const char *name)
{
	char sha256[65];
	json_t *out = json_pack("{s:s}", "kind", kind_name(entry->kind));
	json_object_set_new(out, "key", json_stringn(entry->key, entry->key_nbytes));
	json_object_set_new(out, "value", json_stringn(entry->value, entry->value_nbytes));
	if (name[0] != '\0')
		json_object_set_new(out, "weight", json_string(name));
	if (sha256_text(entry->digest, sha256)[0] != '\0')
		json_object_set_new(out, "sha256", json_string(sha256));
	if (entry->kind == PITH_LINEAGE_WEIGHT_ERROR) {
		json_object_set_new(out, "relative_error", json_real(entry->number[0]));
		json_object_set_new(out, "bits_per_weight", json_real(entry->number[1]));
	}
	return out;
}

static void add_error(struct error_totals *errors, const struct pith_lineage *entry,
                      const char *name)
{
	errors->count++;
	errors->sum += entry->number[0];
	if (errors->count == 1 || entry->number[0] > errors->worst) {
		errors->worst = entry->number[0];
		snprintf(errors->worst_name, sizeof(errors->worst_name), "%s", name);
	}
}

static pith_status print_entries(const struct pith_file *file, bool verbose, json_t *list,
                                 struct pith_error *err)
{
	struct error_totals errors = {0};
	for (size_t i = 0; i < pith_file_lineage_count(file); i++) {
		struct pith_lineage entry;
		char name[256];
		pith_status status = pith_file_lineage_at(file, i, &entry, err);
		if (status != PITH_OK)
			return status;
		weight_name(file, entry.weight, name);
		if (entry.kind == PITH_LINEAGE_WEIGHT_ERROR)
			add_error(&errors, &entry, name);
		if (list != NULL)
			json_array_append_new(list, entry_json(&entry, name));
		else if (verbose || entry.kind != PITH_LINEAGE_WEIGHT_ERROR)
			print_entry(&entry, name);
	}
	if (list == NULL && errors.count > 0)
		printf("weight errors %zu, mean %.3e, largest %.3e (%s)%s\n", errors.count,
		       errors.sum / (double)errors.count, errors.worst, errors.worst_name,
		       verbose ? "" : "; -v lists them");
	return PITH_OK;
}

static pith_status print_rules(const struct pith_file *file, struct pith_error *err)
{
	for (size_t i = 0; i < pith_file_lineage_count(file); i++) {
		struct pith_lineage entry;
		pith_status status = pith_file_lineage_at(file, i, &entry, err);
		if (status != PITH_OK)
			return status;
		if (entry.kind == PITH_LINEAGE_RECIPE && entry.key_nbytes == 4 &&
		    memcmp(entry.key, "rule", 4) == 0)
			printf("%.*s\n", (int)entry.value_nbytes, entry.value);
	}
	return PITH_OK;
}

static int log_run(struct cli *cli, const void *options)
{
	const struct log_options *o = options;
	const char *path = cli->operand[0];
	struct pith_file *file;
	struct pith_error err;
	if (pith_file_open(path, 0, &file, &err) != PITH_OK)
		return cli_fail(cli, path, &err);
	json_t *list = o->json ? json_array() : NULL;
	int code = CLI_OK;
	if (o->rules)
		code = print_rules(file, &err) == PITH_OK ? CLI_OK : cli_fail(cli, path, &err);
	else if (print_entries(file, o->verbose, list, &err) != PITH_OK)
		code = cli_fail(cli, path, &err);
	else if (o->json)
		code = cli_print_json(json_pack("{s:s, s:O}", "file", path, "lineage", list));
	else if (pith_file_lineage_count(file) == 0)
		cli_say(cli, "%s: no lineage is recorded", path);
	json_decref(list);
	pith_file_close(file);
	return code;
}

const struct cli_command cmd_log = {
    .name = "log",
    .summary = "where a model comes from: sources, recipe, tools, measured errors",
    .synopsis = "FILE [-v] [--json]\nFILE --rules",
    .description =
        "Prints the lineage that is recorded in the file, in the order written: sources\n"
        "with their SHA-256, the recipe, tool and library versions, calibration text,\n"
        "parents, notes, and the output error that was measured for each weight.\n"
        "\n"
        "JSON keys: file, lineage (kind, key, value, weight, sha256, relative_error,\n"
        "bits_per_weight).\n",
    .examples = "pith log model.pith\npith log -v model.pith\npith log --json model.pith",
    .options = log_table,
    .options_nbytes = sizeof(struct log_options),
    .min_operands = 1,
    .max_operands = 1,
    .run = log_run,
};

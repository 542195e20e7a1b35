/*
 * The chosen rules beside the target until it is complete, so that --resume need not measure again.
 *
 * TARGET.resume-rules: a line with the key, a rule a line, a last line "end".  Belongs to one
 * machine, as the journal does (calibrate_journal.h); a file that is not whole or has another key
 * counts as none.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "allocate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX ".resume-rules"
#define LINE_CAP 1024u

static char *path_of(const char *target)
{
	char *path = malloc(strlen(target) + sizeof(SUFFIX));
	if (path) {
		memcpy(path, target, strlen(target));
		memcpy(path + strlen(target), SUFFIX, sizeof(SUFFIX));
	}
	return path;
}

static void key_text(const uint8_t key[32], char text[65])
{
	for (size_t i = 0; i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", key[i]);
}

void allocate_keep(const char *target, const uint8_t key[32], const struct allocate_rules *rules)
{
	char text[65];
	char *path = path_of(target);
	FILE *out = path ? fopen(path, "wb") : NULL;
	free(path);
	if (!out)
		return;
	key_text(key, text);
	fprintf(out, "%s\n", text);
	for (size_t i = 0; i < rules->count; i++)
		fprintf(out, "%s\n", rules->rule[i]);
	fputs("end\n", out);
	fclose(out);
}

void allocate_forget(const char *target)
{
	char *path = path_of(target);
	if (path)
		unlink(path);
	free(path);
}

/* The next line without its end, or NULL. */
static char *read_line(FILE *in, char line[LINE_CAP])
{
	char *got = fgets(line, LINE_CAP, in);
	size_t length = got ? strlen(line) : 0;
	if (length == 0 || line[length - 1] != '\n')
		return NULL;
	line[length - 1] = '\0';
	return line;
}

/* 'most' rules at most; false: not whole. */
static bool read_rules(FILE *in, size_t most, struct allocate_rules *out)
{
	char line[LINE_CAP];
	while (read_line(in, line) && strcmp(line, "end") != 0) {
		char *rule = out->count < most ? malloc(strlen(line) + 1) : NULL;
		if (!rule)
			return false;
		memcpy(rule, line, strlen(line) + 1);
		out->rule[out->count++] = rule;
	}
	return strcmp(line, "end") == 0;
}

bool allocate_kept(const char *target, const uint8_t key[32], size_t most,
                   struct allocate_rules *out)
{
	char text[65], line[LINE_CAP];
	char *path = path_of(target);
	FILE *in = path ? fopen(path, "rb") : NULL;
	free(path);
	memset(out, 0, sizeof(*out));
	if (!in)
		return false;
	key_text(key, text);
	out->rule = calloc(most + 1, sizeof(*out->rule));
	bool whole = out->rule && read_line(in, line) && strcmp(line, text) == 0 &&
	             read_rules(in, most, out);
	fclose(in);
	if (!whole)
		allocate_rules_free(out);
	return whole;
}

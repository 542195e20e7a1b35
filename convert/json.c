/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "json.h"

#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Nesting and number of values, found without parsing; strings are skipped. */
static pith_status measure_text(const char *text, size_t nbytes, const char *what,
                                struct pith_error *err)
{
	size_t depth = 0, values = 0;
	bool in_string = false;
	for (size_t i = 0; i < nbytes; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		if (c == '"')
			in_string = true;
		else if (c == '[' || c == '{')
			depth++;
		else if ((c == ']' || c == '}') && depth > 0)
			depth--;
		values += c == '[' || c == '{' || c == ',' || c == ':';
		if (depth > JDOC_MAX_DEPTH)
			return pith_fail(err, PITH_E_LIMIT, i, NULL, "%s is nested deeper than %u", what,
			                 JDOC_MAX_DEPTH);
		if (values > JDOC_MAX_VALUES)
			return pith_fail(err, PITH_E_LIMIT, i, NULL, "%s has more than %zu values", what,
			                 JDOC_MAX_VALUES);
	}
	return PITH_OK;
}

pith_status jdoc_parse(const char *text, size_t nbytes, const char *what, json_t **out,
                       struct pith_error *err)
{
	*out = NULL;
	if (nbytes > JDOC_MAX_NBYTES)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL,
		                 "%s has %zu bytes of JSON, more than %zu", what, nbytes,
		                 JDOC_MAX_NBYTES);
	PITH_TRY(measure_text(text, nbytes, what, err));
	json_error_t why;
	json_t *doc = json_loadb(text, nbytes, JSON_REJECT_DUPLICATES, &why);
	if (!doc) {
		if (json_error_code(&why) == json_error_out_of_memory)
			return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to parse %s",
			                 what);
		return pith_fail(err, PITH_E_CORRUPT, (uint64_t)(why.position > 0 ? why.position : 0),
		                 NULL, "%s is not valid JSON: %.100s", what, why.text);
	}
	if (!json_is_object(doc)) {
		json_decref(doc);
		return pith_fail(err, PITH_E_CORRUPT, 0, NULL, "%s is not a JSON object", what);
	}
	*out = doc;
	return PITH_OK;
}

static pith_status read_whole(int fd, const char *path, size_t limit, char **data, size_t *nbytes,
                              struct pith_error *err)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return pith_fail(err, PITH_E_IO, PITH_NO_OFF, NULL, "%s is not a regular file", path);
	if (st.st_size < 0 || (uint64_t)st.st_size > limit)
		return pith_fail(err, PITH_E_LIMIT, PITH_NO_OFF, NULL, "%s is larger than %zu bytes",
		                 path, limit);
	size_t size = (size_t)st.st_size, done = 0;
	char *text = malloc(size + 1);
	if (!text)
		return pith_fail(err, PITH_E_MEMORY, PITH_NO_OFF, NULL, "no memory to read %s", path);
	while (done < size) {
		ssize_t got = read(fd, text + done, size - done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			free(text);
			return pith_fail(err, PITH_E_IO, done, NULL, "%s: %s", path,
			                 got < 0 ? strerror(errno) : "the file got shorter");
		}
		done += (size_t)got;
	}
	text[size] = '\0';
	*data = text;
	*nbytes = size;
	return PITH_OK;
}

pith_status text_file_read(const char *path, size_t limit, char **data, size_t *nbytes,
                           struct pith_error *err)
{
	*data = NULL;
	*nbytes = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return pith_fail(err, errno == ENOENT ? PITH_E_NOT_FOUND : PITH_E_IO, PITH_NO_OFF, NULL,
		                 "%s: %s", path, strerror(errno));
	pith_status status = read_whole(fd, path, limit, data, nbytes, err);
	close(fd);
	return status;
}

static const json_t *member(const json_t *object, const char *key, bool *present)
{
	const json_t *value = json_object_get(object, key);
	if (value && json_is_null(value))
		value = NULL;
	if (present)
		*present = value != NULL;
	return value;
}

pith_status jdoc_u64(const json_t *object, const char *key, uint64_t low, uint64_t high,
                     uint64_t *out, bool *present, struct pith_error *err)
{
	const json_t *value = member(object, key, present);
	if (!value)
		return PITH_OK;
	json_int_t v = json_integer_value(value);
	if (!json_is_integer(value) || v < 0 || (uint64_t)v < low || (uint64_t)v > high)
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "\"%s\" is not an integer from %llu to %llu", key,
		                 (unsigned long long)low, (unsigned long long)high);
	*out = (uint64_t)v;
	return PITH_OK;
}

pith_status jdoc_f64(const json_t *object, const char *key, double low, double high, double *out,
                     bool *present, struct pith_error *err)
{
	const json_t *value = member(object, key, present);
	if (!value)
		return PITH_OK;
	double v = json_number_value(value);
	if (!json_is_number(value) || !(v >= low && v <= high))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL,
		                 "\"%s\" is not a number from %g to %g", key, low, high);
	*out = v;
	return PITH_OK;
}

pith_status jdoc_bool(const json_t *object, const char *key, bool *out, bool *present,
                      struct pith_error *err)
{
	const json_t *value = member(object, key, present);
	if (!value)
		return PITH_OK;
	if (!json_is_boolean(value))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "\"%s\" is not true or false",
		                 key);
	*out = json_is_true(value);
	return PITH_OK;
}

pith_status jdoc_string(const json_t *object, const char *key, const char **out, bool *present,
                        struct pith_error *err)
{
	const json_t *value = member(object, key, present);
	if (!value)
		return PITH_OK;
	if (!json_is_string(value))
		return pith_fail(err, PITH_E_CORRUPT, PITH_NO_OFF, NULL, "\"%s\" is not a string", key);
	*out = json_string_value(value);
	return PITH_OK;
}

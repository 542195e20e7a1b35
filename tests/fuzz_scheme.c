/*
 * Fuzz target: what users and foreign files give to convert as text, schemes and JSON.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "json.h"
#include "quant.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nbytes)
{
	struct scheme scheme;
	json_t *json;
	char *text = malloc(nbytes + 1);
	if (text == NULL)
		return 0;
	memcpy(text, data, nbytes);
	text[nbytes] = '\0';
	scheme_parse(text, &scheme, NULL);
	if (jdoc_parse(text, nbytes, "input", &json, NULL) == PITH_OK)
		json_decref(json);
	free(text);
	return 0;
}

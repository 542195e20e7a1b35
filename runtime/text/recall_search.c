/*
 * The loops of recall for every processor.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "recall_search_tmpl.h"

const struct recall_loops recall_loops_portable = {near, dot};

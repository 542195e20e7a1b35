/*
 * The page of pith info --html: bits, error and bytes of every matrix, drawn.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_INFO_HTML_H
#define PITH_CLI_INFO_HTML_H

#include "pith.h"

/*
 * Write one self-contained page (HTML, CSS and SVG, no script, nothing fetched) about 'file' to 'out'; it appears
 * whole or not at all.  path: of 'file'; its last part is the title.
 */
pith_status info_html_write(const struct pith_file *file, const char *path, const char *out,
                            struct pith_error *err);

#endif

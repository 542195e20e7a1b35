/*
 * What the frame's own files share beside cli.h.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef PITH_CLI_OPTIONS_H
#define PITH_CLI_OPTIONS_H

/*
 * The better of 'best' (NULL: none yet) and 'candidate' as what the user may have meant by
 * 'word'; NULL when neither is near.
 */
const char *cli_nearest(const char *word, const char *candidate, const char *best);

/* Erase a progress bar that stands on the current line of stderr, if one does. */
void cli_progress_clear(void);

#endif

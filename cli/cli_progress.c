/*
 * Progress of long work on stderr: a bar with rate and ETA on a terminal, plain
 * lines elsewhere.  The one fact kept outside the caller's struct is whether a bar
 * stands on the current line, so that an error message can move it away.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "cli.h"
#include "cli_options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Seconds between redraws of a bar, and between plain lines when less than 10 % was done. */
#define REDRAW_SECONDS 0.1
#define PLAIN_SECONDS 10.0
#define QUIET_SECONDS 3.0 /* the least time between plain lines, and before the first */

static bool bar_on_line; /* a program's state, not a library's: see the file comment */

double cli_seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cli_progress_clear(void)
{
	if (bar_on_line)
		fputs("\r\033[K", stderr);
	bar_on_line = false;
}

static int terminal_width(void)
{
	struct winsize size;
	if (!isatty(STDERR_FILENO))
		return 0;
	const char *term = getenv("TERM");
	if (term != NULL && strcmp(term, "dumb") == 0)
		return 0;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 40)
		return 80;
	return size.ws_col;
}

void cli_progress_start(struct cli_progress *p, const char *what, const char *unit, uint64_t total)
{
	*p = (struct cli_progress){.what = what, .unit = unit, .total = total};
	p->start = cli_seconds();
	p->shown = p->start;
	p->width = terminal_width();
}

/* "3:07" or "1:02:07"; text: 16 bytes. */
static void format_duration(double seconds, char text[16])
{
	if (!(seconds < 360000))
		seconds = 359999;
	unsigned s = (unsigned)(seconds + 0.5);
	if (s >= 3600)
		snprintf(text, 16, "%u:%02u:%02u", s / 3600 % 100, s / 60 % 60, s % 60);
	else
		snprintf(text, 16, "%u:%02u", s / 60 % 60, s % 60);
}

/* "37%  12.1 MiB/s  ETA 0:07  note" */
static void format_state(const struct cli_progress *p, double elapsed, const char *note,
                         char *text, size_t cap)
{
	char rate[40] = "", eta[16] = "", part[16];
	double per_second = elapsed > 0 ? (double)p->done / elapsed : 0;
	if (strcmp(p->unit, "B") == 0) {
		char size[16];
		snprintf(rate, sizeof(rate), "%s/s", cli_format_size((uint64_t)per_second, size));
	} else {
		snprintf(rate, sizeof(rate), "%.*f %s/s", per_second < 100, per_second, p->unit);
	}
	if (per_second > 0 && p->done <= p->total && p->total > 0)
		format_duration((double)(p->total - p->done) / per_second, eta);
	double percent = p->total > 0 ? 100.0 * (double)p->done / (double)p->total : 0;
	if (p->total > 0)
		snprintf(part, sizeof(part), "%3.0f%%", percent < 100 ? percent : 100);
	else
		cli_format_size(p->done, part); /* from a pipe: nobody knows of how much */
	snprintf(text, cap, "%s  %s%s%s%s%s", part, rate,
	         eta[0] != '\0' ? "  ETA " : "", eta, note != NULL ? "  " : "",
	         note != NULL ? note : "");
}

static void draw_bar(const struct cli_progress *p, const char *state)
{
	char cells[41];
	int room = p->width - (int)strlen(p->what) - (int)strlen(state) - 6;
	if (room > 40)
		room = 40;
	if (room < 4)
		room = 0;
	double share = p->total > 0 ? (double)p->done / (double)p->total : 0;
	int full = share < 1 ? (int)(share * room) : room;
	memset(cells, '.', sizeof(cells));
	memset(cells, '#', (size_t)full);
	fprintf(stderr, "\r\033[K%s [%.*s] %.*s", p->what, room, cells,
	        p->width - (int)strlen(p->what) - room - 5, state);
	bar_on_line = true;
	fflush(stderr);
}

void cli_progress_update_note(struct cli_progress *p, uint64_t done, const char *note)
{
	char state[120];
	double now = cli_seconds();
	p->done = done;
	if (p->width > 0) {
		if (now - p->shown < REDRAW_SECONDS)
			return;
	} else {
		bool tenth = p->total > 0 && done - p->shown_done >= p->total / 10;
		if (now - p->shown < QUIET_SECONDS ||
		    (!tenth && now - p->shown < PLAIN_SECONDS))
			return;
	}
	format_state(p, now - p->start, note, state, sizeof(state));
	p->shown = now;
	p->shown_done = done;
	p->visible = true;
	if (p->width > 0)
		draw_bar(p, state);
	else
		fprintf(stderr, "%s: %s\n", p->what, state);
}

void cli_progress_update(struct cli_progress *p, uint64_t done)
{
	cli_progress_update_note(p, done, NULL);
}

void cli_progress_end(struct cli_progress *p)
{
	cli_progress_clear();
	p->width = 0;
}

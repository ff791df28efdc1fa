/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_STREAMS_H
#define PERIGEE_STREAMS_H

#include <stdbool.h>
#include <stdint.h>

/* streams.c -- standard input, output and error of the process.
 *
 * A command writes as any program does. A server hands both outputs to outlets (outlet.h): the log,
 * print, io.stdout and io.stderr of apps, what C libraries say. */

/* Opens /dev/null for each of 0, 1 and 2 that is closed: else the first socket would take its
 * place, and what is meant for people would go to a client. First thing in main. */
void streams_secure(void);
/* Before other threads start, after log_open(2, ...). From then on nobody who writes waits; what is
 * waiting is written when the process ends, for STREAMS_LAST_MS at most: by exit, or by a fatal
 * signal. False, with errno: there is no thread to be had. */
bool streams_lead(void);
/* For who ends the process without exit: writes what is waiting. */
void streams_close(void);
/* Lines that standard output and error did not take, so far. */
uint64_t streams_dropped(void);

enum { STREAMS_LAST_MS = 1000 };

#endif

/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_OUTLET_H
#define PERIGEE_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* outlet.c -- a descriptor that is written to by a thread of its own, from a bounded queue.
 *
 * A pipe whose reader has stalled, a terminal that is held, a disk that is slow: whoever writes to
 * one waits. A server must not, so its threads put what they have to say into a queue, and one
 * thread writes it. When the queue is full, lines are dropped until all that waits is written; then
 * the owner is told how many, so that it can say so at the very place where they are missing. What
 * the descriptor refuses (a full disk, a reader that is gone) counts as dropped, too.
 *
 * The descriptor stays the caller's and as it is: O_NONBLOCK would belong to everybody who shares
 * it. Lines of up to PIPE_BUF bytes leave in one write, or in one with others, so those of several
 * processes on one pipe do not mix. */

struct outlet;

#ifdef PERIGEE_TINY
enum { OUTLET_BYTES = 32 * 1024 };
#else
enum { OUTLET_BYTES = 1024 * 1024 };
#endif

/* Writes into text, of at most size bytes, that so many lines are missing; returns the length, 0
 * for saying nothing here. On the outlet's thread. */
typedef size_t outlet_notice(void *owner, char *text, size_t size, uint64_t lines);

/* NULL, with errno, when there is no thread to be had. */
struct outlet *outlet_open(int fd, outlet_notice *notice, void *owner);
/* Never waits for the reader. Any thread. */
void outlet_put(struct outlet *o, const char *text, size_t n);
/* Lines dropped so far. Any thread. */
uint64_t outlet_dropped(const struct outlet *o);
/* Waits until all is written, for ms at most. False: it is not. Safe in a signal handler. */
bool outlet_settle(struct outlet *o, unsigned ms);
/* Settles, ends the thread and frees all. False when the descriptor is stuck: then the thread keeps
 * what it has, and what is put from now on is dropped. */
bool outlet_close(struct outlet *o, unsigned ms);

/* Writes all of it, waiting as long as it takes; for who may wait. Returns how many bytes were
 * written; fewer than n: errno says why. */
size_t outlet_write(int fd, const char *text, size_t n);

#endif

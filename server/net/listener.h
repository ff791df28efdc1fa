/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LISTENER_H
#define PERIGEE_LISTENER_H

#include <stddef.h>

/* listener.c -- binds, listens, accepts, and hands each socket to a connection. */

struct worker;

enum {
  LISTEN_SHARED = 1,  /* other workers listen on the same port (SO_REUSEPORT) */
  LISTEN_V6_ONLY = 2, /* of an IPv6 address: clients of IPv4 are somebody else's */
};

/* Listens on address:port in this worker. address: IPv4 or IPv6 text, without LISTEN_V6_ONLY [::]
 * is for clients of both; port 0 lets the system choose and *port says what it chose. Returns 0 or
 * a negative libuv error. */
int listener_open(struct worker *w, const char *address, unsigned *port, unsigned flags);

/* Holds an address for workers that will share it, so that a process which has it already is
 * noticed although sharing is allowed. Port 0 is filled in. *fd: close it when the workers listen.
 * Returns 0 or a negative libuv error. */
int listener_reserve(const char *address, unsigned *port, unsigned flags, int *fd);

/* Stops listening everywhere in this worker. */
void listeners_close(struct worker *w);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_SETTINGS_H
#define PERIGEE_SETTINGS_H

#include "base/log.h"
#include "bridge/json.h"
#include "net/conn.h"
#include "wire/forwarded.h"

#include <lua.h>
#include <stdbool.h>

/* settings.c -- what the operator decided, as C values.
 *
 * lua/perigee/config.lua knows the keys, their defaults, units and ranges, and has checked them;
 * this file only copies its table. Read-only once made; shared by all threads. */

enum { LISTEN_MAX = 16 };

struct listen_address {
  char *address;
  unsigned port;
  bool is_v6_only; /* its port has an IPv4 address of its own */
};

/* Limits that a consumer may set for itself. */
struct call_limits {
  struct json_limits params;
  uint32_t method; /* bytes */
  uint32_t batch;  /* members */
  uint32_t calls;  /* in flight per connection */
};

struct settings {
  bool is_dev;
  char *apps;              /* folder */
  bool is_watching;        /* reloads when files below it change */
  char *lua_path;          /* folder to load perigee.* from instead of the binary's own, or NULL */
  char *sessions;          /* where they are kept: "sqlite", "sqlite:FILE", "memory" */
  char *session_cookie;    /* its name */
  char *session_same_site; /* "lax", "strict" or "none" */
  uint64_t session_ttl;    /* seconds */
  char *state;             /* folder for what outlives the process, or "auto" */
  char *secret;            /* signs tokens, or "auto": one in the state folder does */
  struct listen_address listen[LISTEN_MAX];
  unsigned n_listen;
  struct listen_address admin; /* address NULL: none */
  unsigned workers;
  char *layer;            /* URL of a Redis, or NULL: the memory layer */
  char *layer_prefix;     /* of all keys and channels in that Redis */
  uint64_t layer_ms;      /* to wait for it */
  uint64_t shared_memory; /* bytes of perigee.shared in this process */
  enum log_level log_level;
  enum log_format log_format;
  struct conn_limits conn;
  struct call_limits call;
  struct forwarding proxies;             /* .trusted is owned */
  char **hosts;                          /* NULL-terminated: names that are answered to */
  size_t lua_memory;                     /* bytes per worker */
  uint64_t grace_ms;                     /* for draining */
  uint64_t slice_warn_ms, slice_stop_ms; /* Lua running without waiting */
  unsigned max_conns;                    /* per worker; 0: what file descriptors allow */
};

/* Copies the table at index; raises when a key is missing or of the wrong type. */
void settings_read(lua_State *L, int index, struct settings *s);
void settings_fini(struct settings *s);

#endif

/* SPDX-License-Identifier: MIT */
/* redis.c -- one connection to a Redis server: commands out, replies back in the same order, and a
 * new connection after each loss. */
#include "hub/redis.h"

#include "base/log.h"
#include "base/mem.h"

#include <ctype.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
  BACKOFF_MS = 100,             /* doubles with each attempt, */
  BACKOFF_MAX_MS = 5000,        /* up to this, and half of it is chance */
  INPUT_MAX = 64 * 1024 * 1024, /* a reply that long is nothing we asked for */
  ITEMS_MAX = 1 << 20,
  READ_SIZE = 64 * 1024,
};

/* What lives as long as libuv holds the handle. */
struct redis_stream {
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } uv;                /* first */
  struct redis *redis; /* NULL once the connection is given up */
  redisReader *reader;
  uv_connect_t connecting;
  char input[READ_SIZE];
};

static void start(struct redis *r);
static bool connect_next(struct redis *r);
static void drop_addresses(struct redis *r);
static void lose(struct redis *r, const char *why, bool is_fatal);

/* ---- URLs ------------------------------------------------------------------------------------ */

static char *copy(const char *s, size_t n) {
  char *c = mem_alloc(n + 1);
  memcpy(c, s, n);
  c[n] = '\0';
  return c;
}

/* %XX decoded, malloc'd, *len bytes; NULL when malformed. */
static char *decode(const char *s, size_t n, size_t *len) {
  char *out = mem_alloc(n + 1);
  size_t k = 0;
  for (size_t i = 0; i < n; i++) {
    unsigned byte = (unsigned char)s[i];
    if (s[i] == '%') {
      char hex[3] = {0};
      if (i + 2 >= n || !isxdigit((unsigned char)s[i + 1]) || !isxdigit((unsigned char)s[i + 2])) {
        free(out);
        return NULL;
      }
      memcpy(hex, s + i + 1, 2);
      byte = (unsigned)strtoul(hex, NULL, 16);
      i += 2;
    }
    out[k++] = (char)byte;
  }
  out[k] = '\0';
  *len = k;
  return out;
}

static bool read_number(const char *s, size_t n, unsigned max, unsigned *out) {
  unsigned value = 0;
  if (n == 0 || n > 9) return false;
  for (size_t i = 0; i < n; i++) {
    if (s[i] < '0' || s[i] > '9') return false;
    value = value * 10 + (unsigned)(s[i] - '0');
  }
  *out = value;
  return value <= max;
}

static bool parse_unix(const char *s, struct redis_url *u, const char **why) {
  const char *query = strchr(s, '?');
  size_t n = query ? (size_t)(query - s) : strlen(s);
  *why = "unix: needs the absolute path of a socket, as in unix:/run/redis/redis.sock?db=0";
  if (n == 0 || *s != '/') return false;
  if (query && (strncmp(query, "?db=", 4) != 0 ||
                !read_number(query + 4, strlen(query + 4), 1u << 20, &u->db)))
    return false;
  u->is_unix = true;
  u->host = copy(s, n);
  u->shown = mem_alloc(n + 32);
  snprintf(u->shown, n + 32, "unix:%s?db=%u", u->host, u->db);
  return true;
}

/* user:password before the @, either may be missing. */
static bool parse_login(const char *s, size_t n, struct redis_url *u) {
  const char *colon = memchr(s, ':', n);
  if (!colon) return false;
  if (colon > s && !(u->user = decode(s, (size_t)(colon - s), &u->user_len))) return false;
  u->password = decode(colon + 1, n - (size_t)(colon - s) - 1, &u->password_len);
  return u->password && u->password_len > 0;
}

static bool parse_tcp(const char *s, struct redis_url *u, const char **why) {
  const char *at = strrchr(s, '@'); /* the last one: neither host nor number has any */
  if (at) {
    *why = "before the @ there is user:password, or :password; any byte may be written as %XX, a % "
           "must be (%25)";
    if (!parse_login(s, (size_t)(at - s), u)) return false;
    s = at + 1;
  }
  const char *path = strchr(s, '/');
  size_t n = path ? (size_t)(path - s) : strlen(s);
  *why = "the port is a number from 1 to 65535";
  const char *colon = NULL;
  if (n && *s == '[') {
    const char *end = memchr(s, ']', n);
    *why = "an IPv6 address is written [::1]";
    if (!end) return false;
    u->host = copy(s + 1, (size_t)(end - s) - 1);
    if ((size_t)(end + 1 - s) < n) colon = end + 1;
    if (colon && *colon != ':') return false;
  } else {
    colon = memchr(s, ':', n);
    u->host = copy(s, colon ? (size_t)(colon - s) : n);
  }
  u->port = 6379;
  if (colon &&
      (!read_number(colon + 1, n - (size_t)(colon + 1 - s), 65535, &u->port) || u->port == 0))
    return false;
  *why = "there is no host";
  if (!*u->host) return false;
  *why = "after the host there is /DB, the number of a database";
  if (path && path[1] && !read_number(path + 1, strlen(path + 1), 1u << 20, &u->db)) return false;
  size_t size = strlen(u->host) + (u->user ? strlen(u->user) : 0) + 64;
  u->shown = mem_alloc(size);
  snprintf(u->shown, size, strchr(u->host, ':') ? "redis://%s%s[%s]:%u/%u" : "redis://%s%s%s:%u/%u",
           u->user ? u->user : "", u->user ? "@" : "", u->host, u->port, u->db);
  return true;
}

bool redis_url_parse(const char *text, struct redis_url *out, const char **why) {
  bool is_good = false;
  *out = (struct redis_url){0};
  if (strncmp(text, "redis://", 8) == 0) {
    is_good = parse_tcp(text + 8, out, why);
  } else if (strncmp(text, "unix:", 5) == 0) {
    is_good = parse_unix(text + 5, out, why);
  } else if (strncmp(text, "rediss://", 9) == 0) {
    *why = "TLS to Redis (rediss://) is not supported: use a tunnel, or a Unix socket";
  } else {
    *why = "redis://[user:password@]host[:port][/db] or unix:/path[?db=N] is needed";
  }
  if (!is_good) redis_url_free(out);
  return is_good;
}

void redis_url_free(struct redis_url *u) {
  free(u->host);
  free(u->user);
  free(u->password);
  free(u->shown);
  *u = (struct redis_url){0};
}

/* ---- replies --------------------------------------------------------------------------------- */

static void *attach(const redisReadTask *task, struct reply *made) {
  if (task->parent) {
    struct reply *array = task->parent->obj;
    array->items[task->idx] = made;
  }
  return made;
}

static void *make_text(const redisReadTask *task, char *text, size_t n) {
  enum reply_type type = task->type == REDIS_REPLY_ERROR    ? REPLY_ERROR
                         : task->type == REDIS_REPLY_STATUS ? REPLY_STATUS
                                                            : REPLY_STRING;
  return attach(task, reply_text(type, text, n));
}

#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1
typedef size_t item_count;
#else
typedef int item_count;
#endif

static void *make_array(const redisReadTask *task, item_count n) {
  if ((size_t)n > ITEMS_MAX) return NULL; /* the reader fails: out of memory */
  return attach(task, reply_array((size_t)n));
}

static void *make_integer(const redisReadTask *task, long long value) {
  return attach(task, reply_integer(value));
}

static void *make_nil(const redisReadTask *task) {
  struct reply *nil = mem_zalloc(sizeof *nil);
  nil->type = REPLY_NIL;
  return attach(task, nil);
}

static void drop_reply(void *reply) {
  reply_free(reply);
}

static redisReplyObjectFunctions reply_functions = {
    .createString = make_text,
    .createArray = make_array,
    .createInteger = make_integer,
    .createNil = make_nil,
    .freeObject = drop_reply,
};

static struct redis_pending take_pending(struct redis *r) {
  struct redis_pending p = r->pending[r->first];
  r->first = (r->first + 1) % r->cap_pending;
  r->n_pending--;
  return p;
}

static void log_error(struct redis *r, const struct reply *reply) {
  static struct log_limit limit = LOG_LIMIT(2);
  struct log_line l;
  if (!log_begin_limited(&l, &limit, LOG_ERROR, "Redis answers an error")) return;
  log_str(&l, "redis", r->url->shown);
  log_bytes(&l, "error", reply->text, reply->n > 300 ? 300 : reply->n);
  log_end(&l);
}

static bool starts_with(const char *text, const char *word) {
  return strncmp(text, word, strlen(word)) == 0;
}

bool redis_is_refusal(const char *error) {
  return starts_with(error, "NOAUTH") || starts_with(error, "WRONGPASS") ||
         starts_with(error, "NOPERM") || strstr(error, "AUTH") || strstr(error, "DB index") ||
         strstr(error, "invalid password");
}

static void on_greeting(struct redis *r, struct reply *reply) {
  if (reply->type == REPLY_ERROR) {
    char why[300];
    bool is_fatal = redis_is_refusal(reply->text);
    snprintf(why, sizeof why, "%s", reply->text);
    reply_free(reply);
    lose(r, why, is_fatal);
    return;
  }
  reply_free(reply);
  if (--r->n_greetings > 0) return;
  r->state = REDIS_READY;
  r->attempts = 0;
  uv_timer_stop(&r->timer);
  drop_addresses(r);
  r->events->ready(r);
}

static void on_reply(struct redis *r, struct reply *reply) {
  if (r->state == REDIS_GREETING) {
    on_greeting(r, reply);
  } else if (r->events->push) {
    r->events->push(r, reply);
  } else if (r->n_pending == 0) {
    reply_free(reply);
    lose(r, "a reply that nobody asked for: is this Redis?", false);
  } else {
    struct redis_pending p = take_pending(r);
    if (reply->type == REPLY_ERROR && !p.fn) log_error(r, reply);
    if (p.fn)
      p.fn(p.arg, reply);
    else
      reply_free(reply);
  }
}

/* ---- the socket ------------------------------------------------------------------------------ */

static void on_stream_closed(uv_handle_t *handle) {
  struct redis_stream *s = (struct redis_stream *)handle;
  if (s->reader) redisReaderFree(s->reader);
  free(s);
}

static void drop_stream(struct redis *r) {
  struct redis_stream *s = r->stream;
  r->stream = NULL;
  if (!s) return;
  s->redis = NULL;
  if (!uv_is_closing(&s->uv.handle)) uv_close(&s->uv.handle, on_stream_closed);
}

/* Until the next attempt: 100 ms, 200 ms ... 5 s, of which half is chance, so that the nodes of a
 * cluster do not come back all at once. */
static uint64_t backoff(unsigned attempts) {
  uint32_t chance = 0;
  uint64_t ms = BACKOFF_MS;
  for (unsigned i = 0; i < attempts && ms < BACKOFF_MAX_MS; i++) ms *= 2;
  if (ms > BACKOFF_MAX_MS) ms = BACKOFF_MAX_MS;
  if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance) chance = 0;
  return ms / 2 + chance % (ms / 2 + 1);
}

static void on_backoff(uv_timer_t *timer) {
  start(timer->data);
}

static void drop_addresses(struct redis *r) {
  uv_freeaddrinfo(r->addresses);
  r->addresses = r->untried = NULL;
}

/* Gives the connection up: for the host's next address, when this one has never been of use, else
 * until the backoff is over. */
static void lose(struct redis *r, const char *why, bool is_fatal) {
  if (r->state == REDIS_WAITING || r->state == REDIS_CLOSED) return;
  drop_stream(r);
  r->out_len = 0;
  r->unsent = 0;
  r->n_greetings = 0;
  if (r->state != REDIS_READY && !is_fatal && connect_next(r)) return;
  r->state = REDIS_WAITING;
  drop_addresses(r);
  while (r->n_pending) {
    struct redis_pending p = take_pending(r);
    if (p.fn) p.fn(p.arg, NULL);
  }
  if (!r->is_stopping) uv_timer_start(&r->timer, on_backoff, backoff(r->attempts++), 0);
  r->events->lost(r, why, is_fatal);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  struct redis_stream *s = (struct redis_stream *)handle;
  (void)suggested;
  *buf = uv_buf_init(s->input, sizeof s->input);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct redis_stream *s = (struct redis_stream *)stream;
  struct redis *r = s->redis;
  if (!r || n == 0) return;
  if (n < 0) {
    lose(r, n == UV_EOF ? "Redis closed the connection" : uv_strerror((int)n), false);
    return;
  }
  redis_excuse(r);
  redisReaderFeed(s->reader, buf->base, (size_t)n);
  while (s->redis) { /* a reply's receiver may lose the connection */
    void *reply = NULL;
    if (redisReaderGetReply(s->reader, &reply) != REDIS_OK) {
      char why[160];
      snprintf(why, sizeof why, "not the Redis protocol: %s", s->reader->errstr);
      lose(r, why, false);
      return;
    }
    if (!reply) break;
    on_reply(r, reply);
  }
  if (s->redis && s->reader->len - s->reader->pos > INPUT_MAX)
    lose(r, "a reply longer than 64 MiB", false);
}

struct write {
  uv_write_t req; /* first */
  struct redis_stream *stream;
  char *bytes; /* owned */
  size_t n;
};

static void on_written(uv_write_t *req, int status) {
  struct write *w = (struct write *)req;
  struct redis *r = w->stream->redis; /* closing comes after all writes were called back */
  if (r) r->unsent -= w->n;
  free(w->bytes);
  free(w);
  if (r && status < 0) lose(r, uv_strerror(status), false);
}

static void on_prepare(uv_prepare_t *prepare) {
  struct redis *r = prepare->data;
  if (r->out_len == 0 || r->state < REDIS_GREETING) return;
  struct write *w = mem_alloc(sizeof *w);
  uv_buf_t buf = uv_buf_init(r->out, (unsigned)r->out_len);
  w->stream = r->stream;
  w->bytes = r->out;
  w->n = r->out_len;
  r->out = NULL;
  r->out_len = r->out_cap = 0;
  int error = uv_write(&w->req, &r->stream->uv.stream, &buf, 1, on_written);
  if (error) {
    free(w->bytes);
    free(w);
    lose(r, uv_strerror(error), false);
  }
}

static void append(struct redis *r, const char *bytes, size_t n) {
  if (r->out_len + n > r->out_cap) {
    r->out_cap = r->out_cap ? r->out_cap * 2 : 4096;
    while (r->out_len + n > r->out_cap) r->out_cap *= 2;
    r->out = mem_realloc(r->out, r->out_cap);
  }
  memcpy(r->out + r->out_len, bytes, n);
  r->out_len += n;
  r->unsent += n;
}

static void append_words(struct redis *r, size_t argc, const char *const *argv,
                         const size_t *lens) {
  char head[32];
  append(r, head, (size_t)snprintf(head, sizeof head, "*%zu\r\n", argc));
  for (size_t i = 0; i < argc; i++) {
    size_t n = lens ? lens[i] : strlen(argv[i]);
    append(r, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", n));
    append(r, argv[i], n);
    append(r, "\r\n", 2);
  }
}

static void greet(struct redis *r) {
  const struct redis_url *u = r->url;
  char db[16];
  r->state = REDIS_GREETING;
  redis_excuse(r);
  r->n_greetings = 1;
  if (u->password) {
    const char *auth[] = {"AUTH", u->user ? u->user : u->password, u->password};
    const size_t lens[] = {4, u->user ? u->user_len : u->password_len, u->password_len};
    append_words(r, u->user ? 3 : 2, auth, lens);
    r->n_greetings++;
  }
  if (u->db) {
    snprintf(db, sizeof db, "%u", u->db);
    append_words(r, 2, (const char *[]){"SELECT", db}, NULL);
    r->n_greetings++;
  }
  append_words(r, 3, (const char *[]){"CLIENT", "SETNAME", r->name}, NULL);
}

static void on_connected(uv_connect_t *req, int status) {
  struct redis_stream *s = req->data;
  struct redis *r = s->redis;
  if (!r) return;
  if (status < 0) {
    lose(r, uv_strerror(status), false);
    return;
  }
  s->reader = redisReaderCreateWithFunctions(&reply_functions);
  check(s->reader);
  s->reader->maxbuf = READ_SIZE * 4;
  uv_read_start(&s->uv.stream, on_alloc, on_read);
  greet(r);
}

static void on_slow(uv_timer_t *timer) {
  struct redis *r = timer->data;
  if (r->is_resolving) uv_cancel((uv_req_t *)&r->resolver); /* on_resolved loses it */
  lose(r, "no answer in time", false);
}

static struct redis_stream *new_stream(struct redis *r) {
  struct redis_stream *s = r->stream = mem_alloc(sizeof *s);
  s->redis = r;
  s->reader = NULL;
  s->connecting.data = s;
  r->state = REDIS_CONNECTING;
  return s;
}

/* Begins to connect to the next address that can be tried, each with its share of the time that is
 * left. False: there is none. */
static bool connect_next(struct redis *r) {
  while (r->untried) {
    const struct addrinfo *address = r->untried;
    uint64_t now = uv_now(r->loop), n_left = 0;
    for (const struct addrinfo *a = address; a; a = a->ai_next) n_left++;
    r->untried = address->ai_next;
    uint64_t share = now < r->deadline ? (r->deadline - now) / n_left : 0;
    uv_timer_start(&r->timer, on_slow, share, 0);
    struct redis_stream *s = new_stream(r);
    uv_tcp_init(r->loop, &s->uv.tcp);
    uv_tcp_nodelay(&s->uv.tcp, 1);
    if (uv_tcp_connect(&s->connecting, &s->uv.tcp, address->ai_addr, on_connected) == 0)
      return true;
    drop_stream(r);
  }
  return false;
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found) {
  struct redis *r = req->data;
  r->is_resolving = false;
  if (r->state == REDIS_RESOLVING && status == 0) {
    r->addresses = r->untried = found;
    if (!connect_next(r)) lose(r, "none of its addresses can be reached from here", false);
    return;
  }
  uv_freeaddrinfo(found);
  if (r->state == REDIS_RESOLVING) {
    lose(r, uv_strerror(status), false);
  } else if (r->state == REDIS_WAITING && r->is_stopping == false &&
             !uv_is_active((uv_handle_t *)&r->timer)) {
    uv_timer_start(&r->timer, on_backoff, backoff(r->attempts), 0);
  }
}

static void start(struct redis *r) {
  char port[16];
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
  if (r->is_stopping || r->is_resolving) return; /* on_resolved tries again */
  r->state = REDIS_RESOLVING;
  uv_timer_start(&r->timer, on_slow, r->timeout_ms, 0);
  r->deadline = uv_now(r->loop) + r->timeout_ms;
  if (r->url->is_unix) {
    struct redis_stream *s = new_stream(r);
    uv_pipe_init(r->loop, &s->uv.pipe, 0);
    uv_pipe_connect(&s->connecting, &s->uv.pipe, r->url->host, on_connected);
    return;
  }
  snprintf(port, sizeof port, "%u", r->url->port);
  int error = uv_getaddrinfo(r->loop, &r->resolver, on_resolved, r->url->host, port, &hints);
  if (error)
    lose(r, uv_strerror(error), false);
  else
    r->is_resolving = true;
}

/* ---- for the broker -------------------------------------------------------------------------- */

void redis_open(struct redis *r, uv_loop_t *loop, const struct redis_url *url, const char *name,
                uint64_t timeout_ms, const struct redis_events *events, void *owner) {
  *r = (struct redis){.loop = loop,
                      .url = url,
                      .name = name,
                      .events = events,
                      .owner = owner,
                      .timeout_ms = timeout_ms,
                      .state = REDIS_WAITING};
  uv_timer_init(loop, &r->timer);
  uv_prepare_init(loop, &r->prepare);
  r->timer.data = r->prepare.data = r->resolver.data = r;
  uv_prepare_start(&r->prepare, on_prepare);
  start(r);
}

void redis_close(struct redis *r) {
  if (r->state == REDIS_CLOSED) return;
  r->is_stopping = true;
  if (r->is_resolving) uv_cancel((uv_req_t *)&r->resolver);
  drop_stream(r);
  drop_addresses(r);
  r->state = REDIS_CLOSED;
  while (r->n_pending) {
    struct redis_pending p = take_pending(r);
    if (p.fn) p.fn(p.arg, NULL);
  }
  uv_close((uv_handle_t *)&r->timer, NULL);
  uv_close((uv_handle_t *)&r->prepare, NULL);
}

void redis_fini(struct redis *r) {
  free(r->out);
  free(r->pending);
  r->out = NULL;
  r->pending = NULL;
}

static bool is_sendable(const struct redis *r, size_t n) {
  return r->state == REDIS_READY && r->unsent + n <= REDIS_OUT_MAX;
}

static void add_pending(struct redis *r, redis_reply_fn *fn, void *arg) {
  if (r->n_pending == r->cap_pending) {
    uint32_t cap = r->cap_pending ? r->cap_pending * 2 : 256;
    struct redis_pending *ring = mem_alloc(cap * sizeof *ring);
    for (uint32_t i = 0; i < r->n_pending; i++)
      ring[i] = r->pending[(r->first + i) % r->cap_pending];
    free(r->pending);
    r->pending = ring;
    r->first = 0;
    r->cap_pending = cap;
  }
  r->pending[(r->first + r->n_pending++) % r->cap_pending] = (struct redis_pending){fn, arg};
}

bool redis_send(struct redis *r, const char *bytes, size_t n, redis_reply_fn *fn, void *arg) {
  if (!is_sendable(r, n)) return false;
  append(r, bytes, n);
  add_pending(r, fn, arg);
  return true;
}

bool redis_command(struct redis *r, redis_reply_fn *fn, void *arg, size_t argc,
                   const char *const *argv, const size_t *lens) {
  if (!is_sendable(r, 0)) return false;
  append_words(r, argc, argv, lens);
  add_pending(r, fn, arg);
  return true;
}

bool redis_send_only(struct redis *r, size_t argc, const char *const *argv, const size_t *lens) {
  if (r->state != REDIS_READY) return false;
  append_words(r, argc, argv, lens);
  return true;
}

void redis_tend(struct redis *r) {
  static const char *ping[] = {"PING"};
  uint64_t now = uv_now(r->loop);
  if (r->state != REDIS_READY) return;
  if (r->asked && now - r->asked >= r->timeout_ms / 2) {
    lose(r, "no answer in time", false);
  } else if (!r->asked && now - r->last_sign >= r->timeout_ms / 2) {
    r->asked = now;
    if (r->events->push)
      redis_send_only(r, 1, ping, NULL);
    else
      redis_command(r, NULL, NULL, 1, ping, NULL);
  }
}

void redis_excuse(struct redis *r) {
  r->last_sign = uv_now(r->loop);
  r->asked = 0;
}

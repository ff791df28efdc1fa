/* SPDX-License-Identifier: MIT */
/* redis_sessions.c -- keeps sessions in Redis, for servers on several machines.
 *
 *   <prefix>session:<digest of the id, hex>   a hash: field ─▶ value (JSON), and two of our own
 *
 * The store's thread may wait, so a connection of hiredis's blocking kind will do; all jobs of a
 * batch go out before the first reply is read. What must be one step is a script. */
#include "hub/redis_sessions.h"

#include "base/log.h"
#include "base/mem.h"
#include "hub/redis.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

enum {
  TIMEOUT_MS =
      3000,         /* for connecting to all of the host's addresses together, and for each reply */
  IDLE_SECONDS = 1, /* after that a connection is asked for a sign of life before it is used */
  SHA = 40,
};

enum script { LOAD, SAVE, DESTROY, SCRIPTS };

/* The session's end and the format of our fields lie beside the app's fields, under names that
 * those cannot have. `alive` is the start of each: is there a session, and is it not over? */
#define ALIVE                                                                                      \
  "local own = redis.call('HMGET', KEYS[1], '\\0ends', '\\0format')\n"                             \
  "if own[2] and tonumber(own[2]) > 1 then return redis.error_reply('NEWER format ' .. own[2]) "   \
  "end\n"                                                                                          \
  "local alive = own[1] and tonumber(own[1]) > tonumber(ARGV[1])\n"

static const char *const scripts[SCRIPTS] = {
    /* now, ends, touch_below -> false, or { touched, key, value, ... } */
    [LOAD] = ALIVE "if not alive then return false end\n"
                   "local touched = 0\n"
                   "if tonumber(own[1]) < tonumber(ARGV[3]) then\n"
                   "  redis.call('HSET', KEYS[1], '\\0ends', ARGV[2])\n"
                   "  redis.call('EXPIREAT', KEYS[1], ARGV[2])\n"
                   "  touched = 1\n"
                   "end\n"
                   "local all = redis.call('HGETALL', KEYS[1])\n"
                   "table.insert(all, 1, touched)\n"
                   "return all\n",
    /* now, ends, may_create, then field and value, of one to be removed an empty value -> 0 or 1 */
    [SAVE] = ALIVE "if not alive then\n"
                   "  if ARGV[3] ~= '1' then return 0 end\n"
                   "  redis.call('DEL', KEYS[1])\n"
                   "elseif KEYS[1] ~= KEYS[2] then\n"
                   "  redis.call('RENAME', KEYS[1], KEYS[2])\n"
                   "end\n"
                   "redis.call('HSET', KEYS[2], '\\0ends', ARGV[2], '\\0format', 1)\n"
                   "for i = 4, #ARGV, 2 do\n"
                   "  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[2], ARGV[i])\n"
                   "  else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end\n"
                   "end\n"
                   "redis.call('EXPIREAT', KEYS[2], ARGV[2])\n"
                   "return 1\n",
    /* now -> 0 or 1 */
    [DESTROY] = ALIVE "redis.call('DEL', KEYS[1])\n"
                      "return alive and 1 or 0\n",
};

struct keeper {
  struct redis_url url;
  char *prefix;
  redisContext *link; /* NULL: not connected */
  time_t used;        /* when it last answered */
  bool is_refused;    /* by password or database: the last attempt */
  char sha[SCRIPTS][SHA + 1];
};

/* ---- the connection -------------------------------------------------------------------------- */

static void log_failure(struct keeper *k, const char *event, const char *error) {
  static struct log_limit limit = LOG_LIMIT(2);
  struct log_line l;
  if (!log_begin_limited(&l, &limit, LOG_ERROR, event)) return;
  log_str(&l, "redis", k->url.shown);
  log_str(&l, "error", error);
  log_str(&l, "cure", "look whether it runs, can be reached and has memory left");
  log_end(&l);
}

static void drop_link(struct keeper *k) {
  if (k->link) redisFree(k->link);
  k->link = NULL;
}

/* Sends one command and waits; lens NULL: its words are C strings. NULL, with *error malloc'd, when
 * there is no good reply. */
static redisReply *ask(struct keeper *k, int n, const char **words, const size_t *lens,
                       char **error) {
  redisReply *reply = redisCommandArgv(k->link, n, words, lens);
  if (reply && reply->type != REDIS_REPLY_ERROR) return reply;
  k->is_refused = reply && redis_is_refusal(reply->str);
  *error = mem_strdup(reply ? reply->str : k->link->errstr);
  if (reply) freeReplyObject(reply);
  return NULL;
}

static bool tell(struct keeper *k, int n, const char **words, const size_t *lens, char **error) {
  redisReply *reply = ask(k, n, words, lens, error);
  if (reply) freeReplyObject(reply);
  return reply != NULL;
}

static bool greet(struct keeper *k, char **error) {
  const struct redis_url *u = &k->url;
  char db[16];
  const char *auth[] = {"AUTH", u->user ? u->user : u->password, u->password};
  const size_t lens[] = {4, u->user ? u->user_len : u->password_len, u->password_len};
  const char *select[] = {"SELECT", db};
  if (u->password && !tell(k, u->user ? 3 : 2, auth, lens, error)) return false;
  snprintf(db, sizeof db, "%u", u->db);
  if (u->db && !tell(k, 2, select, NULL, error)) return false;
  for (int i = 0; i < SCRIPTS; i++) {
    const char *load[] = {"SCRIPT", "LOAD", scripts[i]};
    redisReply *reply = ask(k, 3, load, NULL, error);
    if (!reply) return false;
    snprintf(k->sha[i], sizeof k->sha[i], "%s", reply->str ? reply->str : "");
    freeReplyObject(reply);
  }
  return true;
}

static struct timeval milliseconds(int64_t ms) {
  return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

/* Connects to an address in figures, or to the path of a socket, and greets; each step may take
 * that long. False with *error, malloc'd. */
static bool link_to(struct keeper *k, const char *where, int64_t ms, char **error) {
  struct timeval timeout = milliseconds(ms);
  k->link = k->url.is_unix ? redisConnectUnixWithTimeout(where, timeout)
                           : redisConnectWithTimeout(where, (int)k->url.port, timeout);
  check(k->link);
  if (k->link->err) {
    *error = mem_strdup(k->link->errstr);
  } else {
    redisSetTimeout(k->link, timeout);
    if (greet(k, error)) {
      redisSetTimeout(k->link, milliseconds(TIMEOUT_MS));
      return true;
    }
  }
  drop_link(k);
  return false;
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Tries the host's addresses until one greets, or Redis itself refuses us: each with its share of
 * the time that is left. False with *error, malloc'd: the last one's. */
static bool link_to_any(struct keeper *k, char **error) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
  int code = getaddrinfo(k->url.host, NULL, &hints, &found);
  if (code != 0) {
    *error = mem_strdup(gai_strerror(code));
    return false;
  }
  int64_t deadline = now_ms() + TIMEOUT_MS, n_left = 0;
  for (const struct addrinfo *a = found; a; a = a->ai_next) n_left++;
  bool is_linked = false;
  for (const struct addrinfo *a = found; a && !is_linked && !k->is_refused; a = a->ai_next) {
    char where[NI_MAXHOST];
    int64_t share = (deadline - now_ms()) / n_left--;
    free(*error);
    *error = NULL;
    code = getnameinfo(a->ai_addr, a->ai_addrlen, where, sizeof where, NULL, 0, NI_NUMERICHOST);
    if (code != 0)
      *error = mem_strdup(gai_strerror(code));
    else
      is_linked = link_to(k, where, share > 0 ? share : 1, error);
  }
  freeaddrinfo(found);
  return is_linked;
}

/* Connects unless it is connected. False with *error, malloc'd. */
static bool connect_link(struct keeper *k, char **error) {
  const char *ping[] = {"PING"};
  time_t now = time(NULL);
  *error = NULL;
  k->is_refused = false;
  if (k->link && (now - k->used > IDLE_SECONDS || now < k->used)) {
    if (!tell(k, 1, ping, NULL, error)) { /* it was cut meanwhile: a new one may work */
      free(*error);
      *error = NULL;
      drop_link(k);
    }
  }
  k->used = now;
  if (k->link) return true;
  k->is_refused = false;
  return k->url.is_unix ? link_to(k, k->url.host, TIMEOUT_MS, error) : link_to_any(k, error);
}

/* ---- commands -------------------------------------------------------------------------------- */

/* The words of a command; texts are borrowed until it is sent. */
struct words {
  const char **text;
  size_t *len;
  int n, cap;
};

static void add(struct words *w, const char *text, size_t len) {
  if (w->n == w->cap) {
    w->cap = w->cap ? w->cap * 2 : 16;
    w->text = mem_realloc(w->text, (size_t)w->cap * sizeof *w->text);
    w->len = mem_realloc(w->len, (size_t)w->cap * sizeof *w->len);
  }
  w->text[w->n] = text;
  w->len[w->n++] = len;
}

static void add_text(struct words *w, const char *text) {
  add(w, text, strlen(text));
}

static char *key_of(const struct keeper *k, const uint8_t *id) {
  size_t n = strlen(k->prefix), room = n + sizeof "session:" + 2 * STORE_ID;
  char *key = mem_alloc(room);
  n = (size_t)snprintf(key, room, "%ssession:", k->prefix);
  for (int i = 0; i < STORE_ID; i++) snprintf(key + n + 2 * i, 3, "%02x", id[i]);
  return key;
}

static void send_job(struct keeper *k, struct words *w, const struct store_job *job) {
  static const enum script script_of[] = {
      [STORE_LOAD] = LOAD, [STORE_SAVE] = SAVE, [STORE_DESTROY] = DESTROY};
  char now[24], ends[24], below[24];
  char *key = key_of(k, job->id);
  char *new_key = key_of(k, job->is_rotated ? job->new_id : job->id);
  struct store_field field;
  const char *name, *value;
  snprintf(now, sizeof now, "%" PRId64, job->now);
  snprintf(ends, sizeof ends, "%" PRId64, job->ends);
  snprintf(below, sizeof below, "%" PRId64, job->touch_below);
  w->n = 0;
  add_text(w, "EVALSHA");
  add_text(w, k->sha[script_of[job->op]]);
  add_text(w, job->op == STORE_SAVE ? "2" : "1");
  add_text(w, key);
  if (job->op == STORE_SAVE) add_text(w, new_key);
  add_text(w, now);
  add_text(w, ends);
  add_text(w, job->op == STORE_LOAD ? below : job->may_create ? "1" : "0");
  for (size_t at = 0; store_field_next(&job->in, &at, &field, &name, &value);) {
    add(w, name, field.key);
    add(w, value ? value : "", value ? field.value : 0);
  }
  redisAppendCommandArgv(k->link, w->n, w->text, w->len); /* an error shows with the reply */
  free(key);
  free(new_key);
}

static void take_fields(struct store_job *job, const redisReply *reply) {
  job->is_touched = reply->elements > 0 && reply->element[0]->integer == 1;
  for (size_t i = 1; i + 1 < reply->elements; i += 2) {
    const redisReply *key = reply->element[i], *value = reply->element[i + 1];
    if (key->len > 0 && key->str[0] != '\0')
      store_field_add(&job->out, key->str, (size_t)key->len, value->str, (size_t)value->len);
  }
}

/* False when the connection is of no use any more. */
static bool receive_reply(struct keeper *k, struct store_job *job) {
  redisReply *reply = NULL;
  if (redisGetReply(k->link, (void **)&reply) != REDIS_OK) {
    log_failure(k, "sessions cannot be kept", k->link->errstr);
    return false;
  }
  bool is_good = true;
  if (reply->type == REDIS_REPLY_ERROR) {
    log_failure(k, "sessions cannot be kept", reply->str);
    is_good = strncmp(reply->str, "NOSCRIPT", 8) != 0; /* the next connection loads them again */
  } else if (reply->type == REDIS_REPLY_ARRAY) {
    take_fields(job, reply);
    job->status = STORE_OK;
  } else {
    job->status =
        reply->type == REDIS_REPLY_INTEGER && reply->integer == 1 ? STORE_OK : STORE_ABSENT;
  }
  freeReplyObject(reply);
  return is_good;
}

/* ---- a keeper's work ------------------------------------------------------------------------- */

static void work(void *self, struct store_job *jobs) {
  struct keeper *k = self;
  struct words words = {0};
  char *error = NULL;
  for (struct store_job *job = jobs; job; job = job->next) job->status = STORE_FAILED;
  if (!connect_link(k, &error)) {
    log_failure(k, "sessions cannot be kept", error);
    free(error);
    return;
  }
  for (struct store_job *job = jobs; job; job = job->next) send_job(k, &words, job);
  bool is_good = true;
  for (struct store_job *job = jobs; job && k->link; job = job->next) {
    is_good = receive_reply(k, job) && is_good;
    if (k->link->err) drop_link(k);
  }
  if (!is_good) drop_link(k);
  k->used = time(NULL);
  free(words.text);
  free(words.len);
}

/* Redis does it by itself: each key has its end. */
static bool sweep(void *self, int64_t now) {
  (void)self;
  (void)now;
  return false;
}

static void close_keeper(void *self) {
  struct keeper *k = self;
  drop_link(k);
  redis_url_free(&k->url);
  free(k->prefix);
  free(k);
}

static char *complaint(const char *shown, const char *what, const char *cure) {
  char *text = NULL;
  check(asprintf(&text, "%s: %s%s", shown, what, cure) >= 0);
  return text;
}

static void *open_keeper(const char *where, char **error) {
  const char *why, *url = strchr(where, ' ');
  char *said = NULL;
  struct keeper *k = mem_zalloc(sizeof *k);
  check(url != NULL);
  k->prefix = mem_dup(where, (size_t)(url - where) + 1);
  k->prefix[url - where] = '\0';
  if (!redis_url_parse(url + 1, &k->url, &why)) {
    *error = mem_strdup(why);
    close_keeper(k);
    return NULL;
  }
  if (connect_link(k, &said)) return k;
  if (!k->is_refused) {
    log_failure(k, "sessions cannot be kept", said);
    free(said);
    return k;
  }
  *error = complaint(k->url.shown, said, " -- check user, password and database");
  free(said);
  close_keeper(k);
  return NULL;
}

const struct store_keeper redis_keeper = {
    .open = open_keeper,
    .work = work,
    .sweep = sweep,
    .close = close_keeper,
};

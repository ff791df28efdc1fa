/* SPDX-License-Identifier: MIT */
/* broker.c -- carries what a process's workers say to other processes, and back, through Redis. */
#include "hub/broker.h"

#include "base/log.h"
#include "hub/payload.h"
#include "net/worker.h"
#include "net/ws_conn.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
  TICK_MS = 500,
  LEASE_MS = 15000,
  RENEW_MS = 5000,
  BATCH = 256, /* groups per SUBSCRIBE or HSET */
  FAREWELL_MS = 300,
};

/* A group's channel, from the first SUBSCRIBE until Redis has confirmed the last UNSUBSCRIBE. */
struct subscription {
  UT_hash_handle hh;
  struct topic *topic;    /* held */
  struct parcel *waiters; /* list: PARCEL_SUBSCRIBED */
  uint32_t due;           /* confirmations that have not come */
  bool is_wanted;         /* there are members */
};

/* A process that published to several groups: the copy of one message that arrives on a second
 * channel comes right behind the first, as its connection keeps order. */
struct source {
  UT_hash_handle hh;
  uint64_t node, seq;
  uint64_t heard; /* uv_now */
};

static void count(atomic_uint_fast64_t *counter) {
  metric_add(counter, 1);
}

static bool is_up(const struct broker *b) {
  return b->is_registered && b->is_listening;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* A key or channel; valid until the next call. */
static const char *name_of(struct broker *b, const char *kind, const char *name, size_t n,
                           size_t *len) {
  size_t prefix = strlen(b->options.prefix), k = strlen(kind);
  if (prefix + k + n + 1 > b->scratch_cap) {
    b->scratch_cap = (prefix + k + n + 1) * 2;
    b->scratch = mem_realloc(b->scratch, b->scratch_cap);
  }
  memcpy(b->scratch, b->options.prefix, prefix);
  memcpy(b->scratch + prefix, kind, k);
  if (n) memcpy(b->scratch + prefix + k, name, n);
  b->scratch[prefix + k + n] = '\0';
  *len = prefix + k + n;
  return b->scratch;
}

/* What follows prefix and kind in a channel's name, or NULL when it does not begin so. */
static const char *strip(const struct broker *b, const struct reply *channel, char kind,
                         size_t *n) {
  size_t prefix = strlen(b->options.prefix);
  if (channel->type != REPLY_STRING || channel->n < prefix + 2) return NULL;
  if (memcmp(channel->text, b->options.prefix, prefix) != 0) return NULL;
  if (channel->text[prefix] != kind || channel->text[prefix + 1] != ':') return NULL;
  *n = channel->n - prefix - 2;
  return channel->text + prefix + 2;
}

/* ---- waking ---------------------------------------------------------------------------------- */

/* Takes the reply. */
static void wake(struct broker *b, struct waiter waiter, bool is_true, struct reply *reply) {
  if (waiter.task == 0) {
    reply_free(reply);
    return;
  }
  struct parcel *p = parcel_new(PARCEL_WAKE, (struct slice){0}, NULL, 0, NULL, 0);
  p->waiter = waiter;
  p->is_true = is_true;
  p->reply = reply;
  outbox_add(&b->outbox, waiter.worker, p);
}

static void wake_waiters(struct broker *b, struct subscription *s, bool is_true) {
  while (s->waiters) {
    struct parcel *p = s->waiters;
    s->waiters = (struct parcel *)p->mail.next;
    wake(b, p->waiter, is_true, NULL);
    layer_discard(b->layer, p);
  }
}

/* Text for the Lua of every worker. */
static void tell_all(struct broker *b, const char *text) {
  struct slice body;
  builder_begin(&b->frames);
  builder_text(&b->frames, text);
  if (!builder_commit(&b->frames, &body)) return;
  for (unsigned i = 0; i < b->layer->n; i++)
    outbox_add(&b->outbox, i, parcel_new(PARCEL_TEXT, body, NULL, 0, NULL, 0));
}

/* ---- up and down ----------------------------------------------------------------------------- */

static void look_whether_up(struct broker *b) {
  struct log_line l;
  if (!is_up(b) || b->was_up) return;
  b->was_up = b->is_settled = true;
  if (log_begin(&l, LOG_INFO, "channel layer is up")) {
    log_str(&l, "redis", b->options.url->shown);
    log_end(&l);
  }
  tell_all(b, "{\"kind\":\"layer_up\"}");
}

static void log_loss(struct broker *b, const struct redis *r, const char *why, bool is_fatal) {
  struct log_line l;
  unsigned n = r->attempts;
  /* one of the two connections is enough to be told of, and of that the first attempt and then
   * after twice as many each time */
  if (!b->was_up && ((n & (n - 1)) != 0 || (r == &b->events && b->commands.state != REDIS_READY)))
    return;
  if (!log_begin(&l, LOG_ERROR,
                 b->was_up ? "channel layer is down: messages stay inside this process"
                           : "channel layer cannot be reached: messages stay inside this process"))
    return;
  log_str(&l, "redis", b->options.url->shown);
  log_str(&l, "why", why);
  if (is_fatal)
    log_str(&l, "cure", "check user, password and database number in the setting 'layer'");
  log_uint(&l, "attempt", n);
  log_end(&l);
}

static void tell_down(struct broker *b, const char *why) {
  char plain[200], text[260];
  snprintf(plain, sizeof plain, "%s", why);
  for (char *c = plain; *c; c++)
    if (*c == '"' || *c == '\\' || *c < 0x20 || *c > 0x7e) *c = '?';
  snprintf(text, sizeof text, "{\"kind\":\"layer_down\",\"error\":\"%s\"}", plain);
  tell_all(b, text);
}

static void went_down(struct broker *b, const struct redis *r, const char *why, bool is_fatal) {
  if (b->is_closing) return;
  log_loss(b, r, why, is_fatal);
  count(&b->layer->metrics.layer_losses);
  snprintf(b->why, sizeof b->why, "%s", why);
  b->is_settled = true;
  b->is_refused = is_fatal;
  if (!b->was_up) return;
  b->was_up = false;
  tell_down(b, why);
}

/* ---- commands out ---------------------------------------------------------------------------- */

static void log_drop(struct broker *b, const char *why, size_t n) {
  static struct log_limit limit = LOG_LIMIT(1);
  struct log_line l;
  if (!log_begin_limited(&l, &limit, LOG_WARN, "a message to other processes was dropped")) return;
  log_bytes(&l, "why", why, n > 200 ? 200 : n);
  log_uint(&l, "dropped_so_far", atomic_load(&b->layer->metrics.layer_dropped));
  log_end(&l);
}

static void drop(struct broker *b, const char *why) {
  count(&b->layer->metrics.layer_dropped);
  log_drop(b, why, strlen(why));
}

struct publishing {
  struct broker *broker;
  struct waiter waiter;
};

static void on_published(void *arg, struct reply *reply) {
  struct broker *b = arg;
  if (!reply) {
    drop(b, "Redis was lost before it confirmed");
  } else if (reply->type == REPLY_ERROR) {
    count(&b->layer->metrics.layer_dropped);
    log_drop(b, reply->text, reply->n);
  }
  reply_free(reply);
}

static void on_published_to_node(void *arg, struct reply *reply) {
  struct publishing *p = arg;
  struct broker *b = p->broker;
  /* nobody listens on that channel: the process is gone, so no acknowledgement will come */
  bool is_gone = !reply || reply->type != REPLY_INTEGER || reply->integer == 0;
  if (is_gone) wake(b, p->waiter, false, NULL);
  on_published(b, reply);
  free(p);
}

static bool publish(struct broker *b, const char *kind, const char *name, size_t n,
                    struct slice payload, redis_reply_fn *fn, void *arg) {
  size_t channel_len;
  const char *channel = name_of(b, kind, name, n, &channel_len);
  const char *argv[] = {"PUBLISH", channel, (const char *)slice_data(&payload)};
  size_t lens[] = {7, channel_len, payload.len};
  bool is_sent = redis_command(&b->commands, fn, arg, 3, argv, lens);
  if (is_sent) count(&b->layer->metrics.layer_sent);
  return is_sent;
}

static const char *why_not(const struct broker *b) {
  return b->commands.state == REDIS_READY ? "Redis is too slow, too much is unsent"
                                          : "Redis cannot be reached";
}

/* To the members of groups in other processes. */
static void send_to_groups(struct broker *b, const struct parcel *p) {
  struct slice payload;
  /* several groups share a number, so that a process that is in more than one takes one copy */
  uint64_t seq = p->n_names > 1 ? ++b->seq : 0;
  if (!payload_write(&b->frames, p, b->layer->node, seq, &payload)) {
    drop(b, "longer than 16 MiB");
    return;
  }
  for (unsigned i = 0; i < p->n_names; i++)
    if (!publish(b, "g:", p->names[i].text, p->names[i].len, payload, on_published, b))
      drop(b, why_not(b));
}

/* To one process. */
static void send_to_node(struct broker *b, const struct parcel *p) {
  struct slice payload;
  char node[17];
  snprintf(node, sizeof node, "%016" PRIx64, p->to.node);
  struct publishing *publishing = NULL;
  if (p->waiter.task) {
    publishing = mem_alloc(sizeof *publishing);
    *publishing = (struct publishing){b, p->waiter};
  }
  const char *why = "longer than 16 MiB";
  if (payload_write(&b->frames, p, b->layer->node, 0, &payload)) {
    why = why_not(b);
    if (publish(b, "n:", node, 16, payload, publishing ? on_published_to_node : on_published,
                publishing ? (void *)publishing : b))
      return;
  }
  drop(b, why);
  wake(b, p->waiter, false, NULL);
  free(publishing);
}

static void on_command_reply(void *arg, struct reply *reply) {
  struct publishing *p = arg;
  wake(p->broker, p->waiter, false, reply);
  free(p);
}

/* A worker's own command. */
static void send_command(struct broker *b, const struct parcel *p) {
  struct publishing *waiting = mem_alloc(sizeof *waiting);
  *waiting = (struct publishing){b, p->waiter};
  if (redis_send(&b->commands, (const char *)slice_data(&p->body), p->body.len, on_command_reply,
                 waiting))
    return;
  wake(b, p->waiter, false, NULL);
  free(waiting);
}

/* ---- groups of this process ------------------------------------------------------------------ */

/* Sends SUBSCRIBE or UNSUBSCRIBE for up to BATCH groups at once. */
static void send_subscriptions(struct broker *b, const char *verb, struct subscription *const *list,
                               size_t n) {
  const char *argv[BATCH + 1] = {verb};
  size_t lens[BATCH + 1] = {strlen(verb)};
  char *names = NULL;
  size_t used = 0, prefix = strlen(b->options.prefix) + 2;
  for (size_t i = 0; i < n; i++) used += prefix + list[i]->topic->name_len;
  names = mem_alloc(used + 1);
  used = 0;
  for (size_t i = 0; i < n; i++) {
    size_t len;
    const char *channel = name_of(b, "g:", list[i]->topic->name, list[i]->topic->name_len, &len);
    memcpy(names + used, channel, len);
    argv[i + 1] = names + used;
    lens[i + 1] = len;
    used += len;
  }
  if (redis_send_only(&b->events, n + 1, argv, lens))
    for (size_t i = 0; i < n; i++) list[i]->due++;
  free(names);
}

static void on_counted(void *arg, struct reply *reply) {
  struct broker *b = arg;
  if (reply && reply->type == REPLY_ERROR) b->is_stale = true;
  reply_free(reply);
}

/* Writes the members of up to BATCH groups into this process's hash; 0 takes the field out. */
static void send_counts(struct broker *b, struct subscription *const *list, size_t n) {
  const char *set[2 + 2 * BATCH], *del[2 + BATCH];
  size_t set_lens[2 + 2 * BATCH], del_lens[2 + BATCH], n_set = 2, n_del = 2, len;
  char numbers[BATCH][12];
  const char *key = name_of(b, "c:", b->node, 16, &len);
  set[0] = "HSET", set_lens[0] = 4;
  del[0] = "HDEL", del_lens[0] = 4;
  set[1] = del[1] = key;
  set_lens[1] = del_lens[1] = len;
  for (size_t i = 0; i < n; i++) {
    const struct topic *topic = list[i]->topic;
    unsigned members = atomic_load(&topic->members);
    if (members) {
      set[n_set] = topic->name, set_lens[n_set++] = topic->name_len;
      set_lens[n_set] = (size_t)snprintf(numbers[i], sizeof numbers[i], "%u", members);
      set[n_set++] = numbers[i];
    } else {
      del[n_del] = topic->name, del_lens[n_del++] = topic->name_len;
    }
  }
  if (n_set > 2 && !redis_command(&b->commands, on_counted, b, n_set, set, set_lens))
    b->is_stale = true;
  if (n_del > 2 && !redis_command(&b->commands, on_counted, b, n_del, del, del_lens))
    b->is_stale = true;
}

static void forget(struct broker *b, struct subscription *s) {
  wake_waiters(b, s, false);
  HASH_DEL(b->by_name, s);
  atomic_store(&s->topic->is_subscribed, false);
  topics_release(&b->layer->topics, s->topic);
  free(s);
}

static struct subscription *find(struct broker *b, const char *name, size_t n) {
  struct subscription *s = NULL;
  HASH_FIND(hh, b->by_name, name, n, s);
  return s;
}

/* A group has got more or fewer members, or its first or none. */
static void on_changed(struct broker *b, struct topic *topic) {
  /* first: whoever changes it from here on sends another parcel */
  atomic_store(&topic->is_changed, false);
  bool is_wanted = atomic_load(&topic->members) > 0;
  struct subscription *s = find(b, topic->name, topic->name_len);
  if (!s) {
    if (!is_wanted) return;
    s = mem_zalloc(sizeof *s);
    s->topic = topic;
    topics_hold_again(&b->layer->topics, topic);
    HASH_ADD_KEYPTR(hh, b->by_name, topic->name, topic->name_len, s);
  }
  if (b->is_registered) send_counts(b, &s, 1);
  if (s->is_wanted == is_wanted) return;
  s->is_wanted = is_wanted;
  if (!is_wanted) atomic_store(&topic->is_subscribed, false);
  send_subscriptions(b, is_wanted ? "SUBSCRIBE" : "UNSUBSCRIBE", &s, 1);
  if (!is_wanted && s->due == 0) forget(b, s);
}

static void on_confirmed(struct broker *b, struct subscription *s) {
  if (s->due == 0 || --s->due > 0) return;
  if (!s->is_wanted) {
    forget(b, s);
    return;
  }
  atomic_store(&s->topic->is_subscribed, true);
  wake_waiters(b, s, true);
}

/* Somebody waits until a group is subscribed. Takes the parcel unless it returns false. */
static bool on_waiter(struct broker *b, struct parcel *p) {
  struct subscription *s = find(b, p->topic->name, p->topic->name_len);
  if (!s || !s->is_wanted || b->events.state != REDIS_READY ||
      atomic_load(&s->topic->is_subscribed)) {
    wake(b, p->waiter, s && atomic_load(&s->topic->is_subscribed), NULL);
    return false;
  }
  p->mail.next = (struct mail *)s->waiters;
  s->waiters = p;
  return true;
}

/* Calls send for all groups, BATCH at a time. */
static void for_all(struct broker *b,
                    void (*send)(struct broker *b, struct subscription *const *list, size_t n)) {
  struct subscription *list[BATCH];
  size_t n = 0;
  for (struct subscription *s = b->by_name; s; s = s->hh.next) {
    list[n++] = s;
    if (n < BATCH) continue;
    send(b, list, n);
    n = 0;
  }
  if (n) send(b, list, n);
}

static void subscribe_all(struct broker *b, struct subscription *const *list, size_t n) {
  send_subscriptions(b, "SUBSCRIBE", list, n);
}

/* ---- this process in the cluster ------------------------------------------------------------- */

/* Renews the lease; answers 0 when Redis has forgotten our counts. KEYS: nodes, counts. */
static const char renew_script[] = "local t = redis.call('TIME') "
                                   "local now = t[1] * 1000 + math.floor(t[2] / 1000) "
                                   "redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1]) "
                                   "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2]) "
                                   "return redis.call('PEXPIRE', KEYS[2], ARGV[2])";

static void write_counts(struct broker *b);

static void on_renewed(void *arg, struct reply *reply) {
  struct broker *b = arg;
  bool is_done = reply && reply->type == REPLY_INTEGER;
  if (is_done && reply->integer == 0) {
    write_counts(b); /* somebody emptied Redis */
    b->lease_due = 0;
  } else if (is_done) {
    b->is_registered = true;
    look_whether_up(b);
  } else if (reply && reply->type == REPLY_ERROR) {
    static struct log_limit limit = LOG_LIMIT(1);
    struct log_line l;
    b->is_registered = false;
    b->is_stale = true;
    went_down(b, &b->commands, reply->text, strncmp(reply->text, "NOPERM", 6) == 0);
    if (log_begin_limited(&l, &limit, LOG_ERROR, "Redis does not take this process's lease")) {
      log_bytes(&l, "error", reply->text, reply->n > 300 ? 300 : reply->n);
      log_end(&l);
    }
  }
  reply_free(reply);
}

static void renew(struct broker *b) {
  char nodes[256], lease[16];
  size_t len;
  snprintf(nodes, sizeof nodes, "%snodes", b->options.prefix);
  snprintf(lease, sizeof lease, "%d", LEASE_MS);
  const char *counts = name_of(b, "c:", b->node, 16, &len);
  const char *argv[] = {"EVAL", renew_script, "2", nodes, counts, b->node, lease};
  b->lease_due = uv_now(b->loop) + RENEW_MS;
  redis_command(&b->commands, on_renewed, b, 7, argv, NULL);
}

static void write_counts(struct broker *b) {
  size_t len;
  char host[64] = "?", about[96];
  gethostname(host, sizeof host - 1);
  snprintf(about, sizeof about, "%s:%d", host, (int)getpid());
  const char *key = name_of(b, "c:", b->node, 16, &len);
  b->is_stale = false;
  redis_command(&b->commands, NULL, NULL, 2, (const char *[]){"DEL", key}, NULL);
  /* no group is called "": this field keeps the hash, and tells people whose it is */
  redis_command(&b->commands, NULL, NULL, 4, (const char *[]){"HSET", key, "", about}, NULL);
  for_all(b, send_counts);
}

static void on_commands_ready(struct redis *r) {
  struct broker *b = r->owner;
  write_counts(b);
  renew(b);
}

static void on_commands_lost(struct redis *r, const char *why, bool is_fatal) {
  struct broker *b = r->owner;
  b->is_registered = false;
  went_down(b, r, why, is_fatal);
}

static void on_events_ready(struct redis *r) {
  struct broker *b = r->owner;
  size_t len;
  const char *argv[] = {"SUBSCRIBE", name_of(b, "n:", b->node, 16, &len)};
  redis_send_only(&b->events, 2, argv, NULL);
  for_all(b, subscribe_all);
}

static void on_events_lost(struct redis *r, const char *why, bool is_fatal) {
  struct broker *b = r->owner;
  struct subscription *s, *next;
  b->is_listening = false;
  for (s = b->by_name; s; s = next) {
    next = s->hh.next;
    s->due = 0;
    atomic_store(&s->topic->is_subscribed, false);
    wake_waiters(b, s, false);
    if (!s->is_wanted) forget(b, s);
  }
  went_down(b, r, why, is_fatal);
}

/* ---- what arrives ---------------------------------------------------------------------------- */

/* The frame, or the text, as a slice of b->frames. */
static bool make_body(struct broker *b, const struct payload *a, struct slice *body) {
  if (a->kind == PAYLOAD_TEXT) {
    builder_begin(&b->frames);
    builder_add(&b->frames, a->body, a->n);
    return builder_commit(&b->frames, body);
  }
  ws_frame_begin(&b->frames);
  builder_add(&b->frames, a->body, a->n);
  return ws_frame_end(&b->frames, a->kind == PAYLOAD_BINARY ? WS_BINARY : WS_TEXT, body);
}

static void deliver_to_groups(struct broker *b, const struct payload *a) {
  struct slice body;
  uint64_t workers = 0;
  for (size_t i = 0; i < a->n_names; i++)
    workers |= topics_workers(&b->layer->topics, a->names[i].text, a->names[i].len);
  if (!workers || !make_body(b, a, &body)) return;
  for (; workers; workers &= workers - 1)
    outbox_add(&b->outbox, (unsigned)__builtin_ctzll(workers),
               parcel_new(a->kind == PAYLOAD_TEXT ? PARCEL_TEXT : PARCEL_PUBLISH, body, a->names,
                          a->n_names, a->except, a->n_except));
}

/* Tells the process that asked whether the connection is there. */
static void acknowledge(struct broker *b, const struct payload *a, bool is_there) {
  struct slice payload;
  char node[17];
  snprintf(node, sizeof node, "%016" PRIx64, a->node);
  if (payload_write_ack(&b->frames, a, is_there, b->layer->node, &payload) &&
      !publish(b, "n:", node, 16, payload, on_published, b))
    drop(b, why_not(b));
}

static void deliver_to_one(struct broker *b, const struct payload *a) {
  struct slice body;
  struct worker *w = layer_worker(b->layer, a->to.worker);
  bool is_there = w && (a->to.conn ? worker_reaches(w, a->to.conn) : a->kind == PAYLOAD_TEXT);
  if (a->kind == PAYLOAD_ACK) {
    struct waiter waiter = a->waiter;
    if (waiter.worker < b->layer->n) wake(b, waiter, a->to.conn != 0, NULL);
    return;
  }
  if (is_there && make_body(b, a, &body)) {
    struct parcel *p =
        parcel_new(a->kind == PAYLOAD_TEXT ? PARCEL_TEXT : PARCEL_SEND, body, NULL, 0, NULL, 0);
    p->to = a->to;
    p->to.node = b->layer->node;
    outbox_add(&b->outbox, a->to.worker, p);
  }
  if (a->waiter.task) acknowledge(b, a, is_there);
}

/* Has this copy of a message to several groups come already? */
static bool is_repeated(struct broker *b, const struct payload *a) {
  struct source *s = NULL;
  if (a->seq == 0) return false;
  HASH_FIND(hh, b->sources, &a->node, sizeof a->node, s);
  if (!s) {
    s = mem_zalloc(sizeof *s);
    s->node = a->node;
    HASH_ADD(hh, b->sources, node, sizeof s->node, s);
  }
  s->heard = uv_now(b->loop);
  if (s->seq == a->seq) return true;
  s->seq = a->seq;
  return false;
}

static void on_foreign(struct broker *b, const struct reply *channel) {
  static struct log_limit limit = LOG_LIMIT(1);
  struct log_line l;
  count(&b->layer->metrics.layer_foreign);
  if (!log_begin_limited(&l, &limit, LOG_WARN,
                         "a message on our prefix that is not ours, or of another version"))
    return;
  log_bytes(&l, "channel", channel->text, channel->n > 200 ? 200 : channel->n);
  log_end(&l);
}

static void on_message(struct broker *b, const struct reply *channel, const struct reply *payload) {
  static struct payload a; /* the broker's thread only; large */
  size_t n;
  bool is_group = strip(b, channel, 'g', &n) != NULL;
  if (payload->type != REPLY_STRING || !payload_read(&a, payload->text, payload->n) ||
      is_group != (a.n_names > 0) || (is_group && a.kind == PAYLOAD_ACK)) {
    on_foreign(b, channel);
    return;
  }
  if (is_group && a.node == b->layer->node) return; /* our own: delivered long ago */
  count(&b->layer->metrics.layer_received);
  if (!is_group)
    deliver_to_one(b, &a);
  else if (!is_repeated(b, &a))
    deliver_to_groups(b, &a);
}

static void on_subscribed(struct broker *b, const struct reply *channel) {
  size_t n;
  const char *name = strip(b, channel, 'g', &n);
  struct subscription *s = name ? find(b, name, n) : NULL;
  if (s) {
    on_confirmed(b, s);
  } else if ((name = strip(b, channel, 'n', &n)) && n == 16) {
    b->is_listening = true;
    look_whether_up(b);
  }
}

static void on_push(struct redis *r, struct reply *reply) {
  struct broker *b = r->owner;
  if (reply->type == REPLY_ARRAY && reply->n == 3 && reply->items[0]->type == REPLY_STRING) {
    const char *what = reply->items[0]->text;
    if (strcmp(what, "message") == 0)
      on_message(b, reply->items[1], reply->items[2]);
    else if (reply->items[1]->type == REPLY_STRING)
      on_subscribed(b, reply->items[1]); /* or unsubscribed */
  } else if (reply->type == REPLY_ERROR) {
    static struct log_limit limit = LOG_LIMIT(1);
    struct log_line l;
    if (log_begin_limited(&l, &limit, LOG_ERROR, "Redis refuses a subscription")) {
      log_bytes(&l, "error", reply->text, reply->n > 300 ? 300 : reply->n);
      log_end(&l);
    }
    if (!b->is_listening) went_down(b, r, reply->text, strncmp(reply->text, "NOPERM", 6) == 0);
  }
  reply_free(reply);
}

/* ---- mail of the workers --------------------------------------------------------------------- */

static void on_mail(void *owner, struct mail *mail) {
  struct broker *b = owner;
  struct parcel *p = (struct parcel *)mail;
  switch (mail->kind) {
  case PARCEL_CHANGED: on_changed(b, p->topic); break;
  case PARCEL_SUBSCRIBED:
    if (on_waiter(b, p)) return;
    break;
  case PARCEL_COMMAND: send_command(b, p); break;
  default:
    if (p->n_names)
      send_to_groups(b, p);
    else
      send_to_node(b, p);
  }
  layer_discard(b->layer, p);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_tick(uv_timer_t *timer) {
  struct broker *b = timer->data;
  uint64_t now = uv_now(b->loop);
  if (now - b->ticked > 3 * TICK_MS) { /* this thread was held up, by apps that load, say */
    redis_excuse(&b->commands);
    redis_excuse(&b->events);
  }
  b->ticked = now;
  redis_tend(&b->commands);
  redis_tend(&b->events);
  if (b->commands.state == REDIS_READY) {
    if (b->is_stale && b->is_registered) write_counts(b);
    if (now >= b->lease_due) renew(b);
  }
  if (now - b->opened > 3 * b->options.timeout_ms) b->is_settled = true;
  struct source *s, *next;
  for (s = b->sources; s; s = next) {
    next = s->hh.next;
    if (now - s->heard < 10 * LEASE_MS) continue;
    HASH_DEL(b->sources, s);
    free(s);
  }
}

static void on_prepare(uv_prepare_t *prepare) {
  struct broker *b = prepare->data;
  outbox_flush(&b->outbox);
  builder_rewind(&b->frames);
}

void broker_open(struct broker *b, struct layer *layer, uv_loop_t *loop,
                 struct broker_options options) {
  static const struct redis_events commands = {.ready = on_commands_ready,
                                               .lost = on_commands_lost};
  static const struct redis_events events = {
      .ready = on_events_ready, .lost = on_events_lost, .push = on_push};
  *b = (struct broker){.layer = layer,
                       .loop = loop,
                       .options = options,
                       .opened = uv_now(loop),
                       .ticked = uv_now(loop)};
  snprintf(b->node, sizeof b->node, "%016" PRIx64, layer->node);
  mailbox_open(&b->box, loop, 64 * 1024, 64 * 1024 * 1024, on_mail, b);
  outbox_init(&b->outbox, layer, &layer->metrics);
  redis_open(&b->commands, loop, options.url, "perigee", options.timeout_ms, &commands, b);
  redis_open(&b->events, loop, options.url, "perigee-events", options.timeout_ms, &events, b);
  uv_timer_init(loop, &b->tick);
  uv_timer_start(&b->tick, on_tick, TICK_MS, TICK_MS);
  uv_prepare_init(loop, &b->prepare);
  uv_prepare_start(&b->prepare, on_prepare);
  b->tick.data = b->prepare.data = b;
  atomic_store(&layer->broker, &b->box);
}

bool broker_settle(struct broker *b, const char **why) {
  while (!b->is_settled) uv_run(b->loop, UV_RUN_ONCE);
  *why = b->why;
  return !b->is_refused;
}

static void close_all(struct broker *b) {
  if (uv_is_closing((uv_handle_t *)&b->tick)) return;
  uv_close((uv_handle_t *)&b->tick, NULL);
  uv_close((uv_handle_t *)&b->prepare, NULL);
  redis_close(&b->commands); /* answers what is pending, which may come back here */
  redis_close(&b->events);
}

static void on_farewell(void *arg, struct reply *reply) {
  reply_free(reply);
  close_all(arg);
}

static void on_farewell_over(uv_timer_t *timer) {
  close_all(timer->data);
}

void broker_close(struct broker *b) {
  char nodes[256];
  size_t len;
  b->is_closing = true;
  mailbox_close(&b->box);
  snprintf(nodes, sizeof nodes, "%snodes", b->options.prefix);
  redis_command(&b->commands, NULL, NULL, 3, (const char *[]){"ZREM", nodes, b->node}, NULL);
  const char *argv[] = {"DEL", name_of(b, "c:", b->node, 16, &len)};
  if (redis_command(&b->commands, on_farewell, b, 2, argv, NULL))
    uv_timer_start(&b->tick, on_farewell_over, FAREWELL_MS, 0);
  else
    close_all(b);
}

void broker_fini(struct broker *b) {
  struct subscription *s;
  struct source *source;
  atomic_store(&b->layer->broker, NULL);
  outbox_flush(&b->outbox);
  while ((s = b->by_name)) forget(b, s);
  outbox_flush(&b->outbox);
  while ((source = b->sources)) {
    HASH_DEL(b->sources, source);
    free(source);
  }
  mailbox_fini(&b->box);
  redis_fini(&b->commands);
  redis_fini(&b->events);
  builder_fini(&b->frames);
  free(b->scratch);
}

/* SPDX-License-Identifier: MIT */
/* conn.c -- one client connection, from accept to close: input, output queue, limits, end.
 *
 * Output. What is sent is queued as slices and written once per turn, by conn_flush. Messages that
 * follow each other in one block become one slice, so a turn's answers, or a turn's publishes to a
 * group, usually leave as one piece. What the kernel does not take moves into a uv_write; until
 * that reports, new output waits in the queue.
 *
 * Input. All connections share the worker's read buffer. Only input that cannot be used yet is
 * copied: an incomplete frame head, or what arrives while the connection is paused. */
#include "net/conn.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/http_conn.h"
#include "net/worker.h"
#include "wire/network.h"

#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef PERIGEE_TINY
enum { IOV = 2 };
#else
enum { IOV = 64 };
#endif

enum { LINGER_BYTES = 8 * 1024 * 1024 }; /* thrown away while finishing, then cut */

static void start_reading(struct conn *conn);

static struct conn *conn_of_timeout(struct deadline *d) {
  return (struct conn *)((char *)d - offsetof(struct conn, timeout));
}

static struct backlog *backlog_of_stall(struct deadline *d) {
  return (struct backlog *)((char *)d - offsetof(struct backlog, stall));
}

void *conn_upper(struct conn *conn) {
  return conn + 1;
}

/* ---- end ------------------------------------------------------------------------------------- */

static void free_if_unlisted(struct conn *conn) {
  if (conn->is_gone && !conn->is_dirty && !conn->is_unpaused) free(conn);
}

static void on_closed(uv_handle_t *handle) {
  struct conn *conn = (struct conn *)handle;
  free(conn->input);
  conn->input = NULL;
  conn->is_gone = true;
  free_if_unlisted(conn);
}

static void drop_queue(struct conn *conn) {
  if (conn->first.len) buf_unref(conn->first.buf);
  conn->first.len = 0;
  conn->queued = 0;
  struct backlog *b = conn->backlog;
  if (!b) return;
  for (uint32_t i = 0; i < b->n; i++) /* those that are written have no bytes and no reference */
    if (b->slices[i].len) buf_unref(b->slices[i].buf);
  deadline_unset(&conn->worker->deadlines, &b->stall);
  free(b->slices);
  free(b);
  conn->backlog = NULL;
}

static void log_ended(struct conn *conn) {
  struct log_line l;
  if (!log_begin(&l, LOG_DEBUG, "connection ended")) return;
  log_hex(&l, "conn", conn_id(conn));
  log_str(&l, "protocol", conn->protocol->name);
  log_str(&l, "why", conn->why);
  log_end(&l);
}

void conn_close(struct conn *conn, const char *why) {
  if (conn->state == CONN_CLOSED) return;
  conn->state = CONN_CLOSED;
  if (!conn->why) conn->why = why;
  log_ended(conn);
  deadline_unset(&conn->worker->deadlines, &conn->timeout);
  conn->protocol->closed(conn);
  drop_queue(conn);
  worker_remove_conn(conn->worker, conn);
  metric_add(&conn->worker->metrics.connections_closed, 1);
  uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

/* While finishing: all is written, so say that no more will come. */
static void shut_down(struct conn *conn) {
  uv_os_fd_t fd;
  if (conn->has_ended || conn->is_last_word) {
    conn_close(conn, conn->why);
    return;
  }
  if (conn->has_shut) return;
  conn->has_shut = true;
  conn_set_timeout(conn, conn->worker->limits->linger_ms);
  if (uv_fileno((uv_handle_t *)&conn->tcp, &fd) != 0 || shutdown(fd, SHUT_WR) != 0)
    conn_close(conn, "shutdown failed");
}

static void mark_dirty(struct conn *conn) {
  struct worker *w = conn->worker;
  if (conn->is_dirty) return;
  conn->is_dirty = true;
  *w->dirty_end = conn;
  w->dirty_end = &conn->next_dirty;
}

void conn_finish(struct conn *conn, const char *why) {
  if (conn->state != CONN_OPEN) return;
  conn->state = CONN_FINISHING;
  conn->why = why;
  conn->pauses = 0;
  conn_watch(conn, conn->worker->limits->linger_ms);
  start_reading(conn); /* to notice the peer's end */
  mark_dirty(conn);
}

void conn_end(struct conn *conn, const char *why) {
  conn->is_last_word = true;
  conn_finish(conn, why);
}

/* Bytes that the kernel has taken and the peer has not. It takes megabytes and asks for more only
 * when a third is gone: what is pending alone would look like a peer that does not read. */
static size_t unacknowledged(const struct conn *conn) {
  uv_os_fd_t fd;
  int n = 0;
  if (uv_fileno((const uv_handle_t *)&conn->tcp, &fd) != 0 || ioctl(fd, SIOCOUTQ, &n) != 0)
    return 0;
  return n > 0 ? (size_t)n : 0;
}

void conn_watch(struct conn *conn, uint64_t ms) {
  conn->left = UINT32_MAX;
  conn_set_timeout(conn, ms);
}

bool conn_is_taking(struct conn *conn) {
  size_t left = conn_pending(conn) + unacknowledged(conn);
  bool is_taking = left == 0 || left < conn->left;
  conn->left = (uint32_t)left;
  return is_taking;
}

bool conn_takes_rest(struct conn *conn, uint64_t ms) {
  uint32_t heard = (uint32_t)worker_heard(conn->worker);
  if (!conn_is_taking(conn) || conn->left == 0) return false;
  if (!conn->is_timed) {
    conn->is_timed = true;
    conn->taken_by = heard + (uint32_t)conn_time_left(conn->worker->limits, 0, conn->left);
  }
  if ((int32_t)(conn->taken_by - heard) > 0) {
    conn_set_timeout(conn, ms);
  } else {
    conn->is_doomed = true;
    mark_dirty(conn);
  }
  return true;
}

static void on_timeout(struct deadline *d) {
  struct conn *conn = conn_of_timeout(d);
  if (conn->state != CONN_FINISHING)
    conn->protocol->timeout(conn);
  else if (!conn_takes_rest(conn, conn->worker->limits->linger_ms))
    conn_close(conn, conn->why);
}

void conn_set_timeout(struct conn *conn, uint64_t ms) {
  struct deadlines *ds = &conn->worker->deadlines;
  if (conn->state == CONN_CLOSED) return;
  conn->timeout.fire = on_timeout;
  deadline_await(ds, &conn->timeout, deadlines_now(ds) + ms);
}

void conn_unset_timeout(struct conn *conn) {
  deadline_unset(&conn->worker->deadlines, &conn->timeout);
}

/* ---- output ---------------------------------------------------------------------------------- */

static struct backlog *need_backlog(struct conn *conn) {
  if (!conn->backlog) {
    conn->backlog = mem_zalloc(sizeof *conn->backlog);
    conn->backlog->conn = conn;
  }
  return conn->backlog;
}

static void enqueue(struct conn *conn, struct slice slice) {
  struct backlog *b = conn->backlog;
  if (conn->first.len == 0) {
    buf_ref(slice.buf);
    conn->first = slice;
    return;
  }
  struct slice *last = b && b->n ? &b->slices[b->n - 1] : &conn->first;
  if (last->buf == slice.buf && last->off + last->len == slice.off) {
    last->len += slice.len;
    return;
  }
  b = need_backlog(conn);
  if (b->n == b->cap) {
    b->cap = b->cap ? b->cap * 2 : 8;
    b->slices = mem_realloc(b->slices, b->cap * sizeof *b->slices);
  }
  buf_ref(slice.buf);
  b->slices[b->n++] = slice;
}

/* Takes the slices that have no bytes left out of the front of the queue. */
static void drop_written(struct conn *conn, uint32_t n) {
  struct backlog *b = conn->backlog;
  if (n == 0) return;
  uint32_t left = 1 + (b ? b->n : 0) - n;
  conn->first.len = 0;
  if (left) conn->first = b->slices[n - 1];
  if (!b) return;
  if (left > 1) memmove(b->slices, b->slices + n, (left - 1) * sizeof *b->slices);
  b->compacted = b->compacted > n ? b->compacted - n : 0;
  b->n = left ? left - 1 : 0;
}

/* The usual queue is one slice. */
static bool write_first(struct conn *conn) {
  struct slice *first = &conn->first;
  uv_buf_t iov = uv_buf_init((char *)first->buf->data + first->off, first->len);
  int wrote = uv_try_write((uv_stream_t *)&conn->tcp, &iov, 1);
  if (wrote < 0) return wrote == UV_EAGAIN;
  metric_add(&conn->worker->metrics.bytes_sent, (uint32_t)wrote);
  conn->queued -= (uint32_t)wrote;
  first->off += (uint32_t)wrote;
  first->len -= (uint32_t)wrote;
  if (first->len == 0) buf_unref(first->buf);
  return true;
}

/* Hands the kernel as much of the queue as it takes. False when the connection is broken. */
static bool write_some(struct conn *conn) {
  struct backlog *b = conn->backlog;
  if (!b) return write_first(conn);
  uint32_t n = 1 + b->n;
  uint32_t at = 0; /* slices that are written */
  int wrote = 0;
  while (at < n) {
    uv_buf_t iov[IOV];
    struct slice *slices[IOV];
    unsigned k = 0;
    size_t want = 0;
    for (; k < IOV && at + k < n; k++) {
      slices[k] = at + k == 0 ? &conn->first : &b->slices[at + k - 1];
      iov[k] = uv_buf_init((char *)slices[k]->buf->data + slices[k]->off, slices[k]->len);
      want += slices[k]->len;
    }
    wrote = uv_try_write((uv_stream_t *)&conn->tcp, iov, k);
    size_t left = wrote < 0 ? 0 : (size_t)wrote;
    bool is_all = left == want;
    conn->queued -= (uint32_t)left;
    metric_add(&conn->worker->metrics.bytes_sent, left);
    for (unsigned i = 0; i < k && (left || is_all); i++) {
      if (left < slices[i]->len) {
        slices[i]->off += (uint32_t)left;
        slices[i]->len -= (uint32_t)left;
        break;
      }
      left -= slices[i]->len;
      buf_unref(slices[i]->buf);
      slices[i]->len = 0;
      at++;
    }
    if (!is_all) break;
  }
  drop_written(conn, at);
  return wrote >= 0 || wrote == UV_EAGAIN;
}

/* It comes from another process, which may have other limits. */
static void drop_too_long(struct conn *conn, uint32_t len) {
  static struct log_limit limit = LOG_LIMIT(10);
  struct log_line l;
  metric_add(&conn->worker->metrics.sends_dropped, 1);
  if (!log_begin_limited(&l, &limit, LOG_WARN, "a message longer than output_hard was not sent"))
    return;
  log_hex(&l, "conn", conn_id(conn));
  log_uint(&l, "bytes", len);
  log_uint(&l, "output_hard", conn->worker->limits->output_hard);
  log_end(&l);
}

/* Hands the kernel what it takes, once what is queued in one turn is too much: who reads must not
 * be taken for one who does not. */
static bool make_room(struct conn *conn, uint32_t len) {
  uint32_t hard = conn->worker->limits->output_hard;
  if (conn->is_writing || !conn->first.len) return false;
  write_some(conn); /* should it fail, the flush finds out */
  return conn_pending(conn) + len <= hard;
}

bool conn_send(struct conn *conn, struct slice slice) {
  struct worker *w = conn->worker;
  if (conn->state != CONN_OPEN || conn->is_doomed) {
    metric_add(&w->metrics.sends_dropped, 1);
    return false;
  }
  if (slice.len == 0) return true;
  if (slice.len > w->limits->output_hard) {
    drop_too_long(conn, slice.len);
    return false;
  }
  mark_dirty(conn);
  if (conn_pending(conn) + slice.len > w->limits->output_hard && !make_room(conn, slice.len)) {
    conn->is_doomed = true; /* not closed here: the caller may be in the middle of a group */
    metric_add(&w->metrics.sends_dropped, 1);
    return false;
  }
  enqueue(conn, slice);
  conn->queued += slice.len;
  /* Whoever asks for this much at once reads it before asking for more: else a thousand calls in
   * one read could fill the queue before its first byte leaves. The flush lifts the pause. */
  if (conn_pending(conn) > w->limits->output_soft) conn_pause(conn, PAUSE_OUTPUT);
  return true;
}

size_t conn_pending(const struct conn *conn) {
  return conn->queued + uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);
}

/* What the kernel did not take. */
struct rest {
  uv_write_t request; /* must be first */
  struct conn *conn;
  uint32_t n;
  struct slice slices[]; /* one reference each */
};

static void on_written(uv_write_t *request, int status) {
  struct rest *rest = (struct rest *)request;
  struct conn *conn = rest->conn;
  conn->worker->activity++;
  for (uint32_t i = 0; i < rest->n; i++) buf_unref(rest->slices[i].buf);
  free(rest);
  conn->is_writing = false;
  if (conn->state == CONN_CLOSED) return;
  if (status < 0)
    conn_close(conn, "write failed");
  else
    mark_dirty(conn); /* the next flush goes on */
}

enum { SHARED_SLACK = 256 * 1024, SHARED_FACTOR = 4 };

/* Bytes of the shared blocks that these slices hold; `last` is the block in front of them. */
static size_t shared_bytes(const struct slice *slices, uint32_t n, const struct buf *last) {
  size_t bytes = 0;
  for (uint32_t i = 0; i < n; last = slices[i++].buf)
    if (slices[i].buf != last && slices[i].buf->is_shared) bytes += slices[i].buf->cap;
  return bytes;
}

/* Blocks whose messages are for many stay shared: a copy for each reader that is slow would be far
 * more. Unless this one gets so little of them that they are mostly others'. */
static bool may_share(size_t shared, size_t queued) {
  return shared <= SHARED_FACTOR * queued + SHARED_SLACK;
}

/* A short slice keeps its whole block alive, also what is written to it later. */
static bool is_wasteful(struct slice slice, bool may_share) {
  return slice.len < slice.buf->cap / 4 && !(may_share && slice.buf->is_shared);
}

/* What waits for a reader that may stay slow must not hold blocks that are nearly all other
 * connections': copies short slices out, those that are neighbours into one. Returns how many
 * slices are left. */
static uint32_t compact(struct slice *slices, uint32_t n, bool may_share) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < n; kept++) {
    uint32_t from = i;
    size_t len = 0;
    while (i < n && is_wasteful(slices[i], may_share)) len += slices[i++].len;
    if (i == from) {
      slices[kept] = slices[i++];
      continue;
    }
    struct buf *copy = buf_new(len);
    for (uint32_t k = from; k < i; k++) {
      memcpy(copy->data + copy->len, slice_data(&slices[k]), slices[k].len);
      copy->len += slices[k].len;
      buf_unref(slices[k].buf);
    }
    slices[kept] = (struct slice){copy, 0, copy->len};
  }
  return kept;
}

/* A uv_write is under way: what was queued behind it in this turn may wait for long. */
static void compact_queue(struct conn *conn) {
  struct backlog *b = conn->backlog;
  size_t first = shared_bytes(&conn->first, 1, NULL);
  bool is_frugal = true;
  if (b) {
    const struct slice *last = b->compacted ? &b->slices[b->compacted - 1] : &conn->first;
    size_t more = shared_bytes(b->slices + b->compacted, b->n - b->compacted, last->buf);
    is_frugal = may_share(first + b->shared + more, conn->queued);
    if (is_frugal) b->shared += more;
    b->n = b->compacted += compact(b->slices + b->compacted, b->n - b->compacted, is_frugal);
  }
  compact(&conn->first, 1, is_frugal);
}

/* Moves what is left of the queue into a uv_write. */
static void write_rest(struct conn *conn, struct slice *slices, uint32_t n) {
  struct rest *rest = mem_alloc(sizeof *rest + n * sizeof *slices);
  uv_buf_t *bufs = mem_alloc(n * sizeof *bufs);
  rest->conn = conn;
  size_t bytes = 0;
  for (uint32_t i = 0; i < n; i++) bytes += slices[i].len;
  rest->n = compact(slices, n, may_share(shared_bytes(slices, n, NULL), bytes));
  memcpy(rest->slices, slices, rest->n * sizeof *slices);
  for (uint32_t i = 0; i < rest->n; i++)
    bufs[i] = uv_buf_init((char *)slices[i].buf->data + slices[i].off, slices[i].len);
  conn->is_writing = true;
  int error = uv_write(&rest->request, (uv_stream_t *)&conn->tcp, bufs, rest->n, on_written);
  free(bufs);  /* libuv has its own copy of the array */
  if (error) { /* on_written will not come */
    conn->is_writing = false;
    for (uint32_t i = 0; i < rest->n; i++) buf_unref(rest->slices[i].buf);
    free(rest);
    conn_close(conn, "write failed");
  }
}

/* Writes the queue. False when the connection was closed. */
static bool write_queue(struct conn *conn) {
  if (!write_some(conn)) {
    conn_close(conn, "write failed");
    return false;
  }
  if (!conn->first.len) return true;
  struct backlog *b = conn->backlog;
  uint32_t n = 1 + (b ? b->n : 0);
  struct slice *left = mem_alloc(n * sizeof *left);
  left[0] = conn->first;
  if (n > 1) memcpy(left + 1, b->slices, (n - 1) * sizeof *left);
  metric_add(&conn->worker->metrics.bytes_sent, conn->queued);
  conn->queued = 0;
  conn->first.len = 0;
  if (b) {
    b->n = b->compacted = 0;
    b->shared = 0;
  }
  write_rest(conn, left, n);
  free(left);
  return conn->state != CONN_CLOSED;
}

static void on_stall(struct deadline *d) {
  struct conn *conn = backlog_of_stall(d)->conn;
  if (conn_pending(conn) > conn->worker->limits->output_soft) conn->is_doomed = true; /* still */
  mark_dirty(conn);
}

/* After a write: is the peer too far behind to be read from? */
static void weigh_backlog(struct conn *conn) {
  struct worker *w = conn->worker;
  size_t pending = conn_pending(conn);
  if (pending > w->limits->output_soft) {
    struct backlog *b = need_backlog(conn);
    if (!deadline_is_set(&b->stall)) {
      b->stall.fire = on_stall;
      deadline_await(&w->deadlines, &b->stall, worker_now(w) + w->limits->output_soft_ms);
    }
    if (conn->state == CONN_OPEN) conn_pause(conn, PAUSE_OUTPUT);
    return;
  }
  if (conn->backlog && deadline_is_set(&conn->backlog->stall))
    deadline_unset(&w->deadlines, &conn->backlog->stall);
  conn_resume(conn, PAUSE_OUTPUT);
  if (pending == 0 && conn->backlog) { /* the usual state owns nothing */
    free(conn->backlog->slices);
    free(conn->backlog);
    conn->backlog = NULL;
  }
}

void conn_flush(struct conn *conn) {
  struct worker *w = conn->worker;
  if (conn->state == CONN_CLOSED) {
    free_if_unlisted(conn);
    return;
  }
  if (conn->is_doomed) {
    static struct log_limit limit = LOG_LIMIT(10);
    struct log_line l;
    if (log_begin_limited(&l, &limit, LOG_WARN, "slow reader cut")) {
      log_hex(&l, "conn", conn_id(conn));
      log_uint(&l, "pending", conn_pending(conn));
      log_end(&l);
    }
    metric_add(&w->metrics.slow_readers, 1);
    conn_close(conn, "slow reader");
    return;
  }
  if (conn->first.len && conn->is_writing)
    compact_queue(conn);
  else if (conn->first.len && !write_queue(conn))
    return;
  if (conn->backlog || conn->is_writing || conn->pauses & PAUSE_OUTPUT) weigh_backlog(conn);
  if (conn_pending(conn)) return;
  if (conn->state == CONN_FINISHING)
    shut_down(conn);
  else if (conn->protocol->drained)
    conn->protocol->drained(conn);
}

/* ---- input ----------------------------------------------------------------------------------- */

static void keep_input(struct conn *conn, const uint8_t *data, size_t n) {
  if (conn->input_len + n > conn->input_cap) {
    conn->input_cap = conn->input_len + (uint32_t)n;
    conn->input = mem_realloc(conn->input, conn->input_cap);
  }
  memcpy(conn->input + conn->input_len, data, n);
  conn->input_len += (uint32_t)n;
}

static void drop_input(struct conn *conn) {
  free(conn->input);
  conn->input = NULL;
  conn->input_len = conn->input_cap = 0;
}

bool conn_may_go_on(struct conn *conn) {
  struct worker *w = conn->worker;
  turn_look_back(&w->turn, uv_now(&w->loop)); /* the first portion of a read began after the poll */
  if (turn_charge(&w->turn, &conn->share)) return true;
  metric_add(&w->metrics.turns_cut, 1);
  return false;
}

/* The rest of its input is for the next turn. */
static void put_off(struct conn *conn) {
  conn_pause(conn, PAUSE_TURN);
  conn->worker->turn.has_late = true;
  if (conn->state == CONN_OPEN) worker_feed_later(conn->worker, conn);
}

__attribute__((noinline)) static void end_portion(struct conn *conn) {
  if (!conn_may_go_on(conn)) put_off(conn);
}

static size_t feed(struct conn *conn, uint8_t *data, size_t n) {
  size_t used = 0;
  while (used < n && conn->state == CONN_OPEN && !conn->pauses) {
    size_t k = conn->protocol->feed(conn, data + used, n - used);
    if (k == 0) break;
    used += k;
    /* one message, which is all that most reads bring, is not worth a look at the clock; a full
     * buffer is, as libuv reads again at once */
    if (used < n || n == worker_read_size()) end_portion(conn);
  }
  return used;
}

static void after_feed(struct conn *conn) {
  if (conn->state != CONN_OPEN) {
    drop_input(conn);
    return;
  }
  if (conn->pauses) {
    /* A pause alone costs no system call: most end within the turn. Only input that comes in spite
     * of it stops the reading, which bounds what is kept to one read. */
    if (conn->input_len && conn->is_reading) {
      uv_read_stop((uv_stream_t *)&conn->tcp);
      conn->is_reading = false;
    }
    return;
  }
  if (conn->has_ended) conn->protocol->end(conn);
}

void conn_feed_kept(struct conn *conn) {
  if (conn->state != CONN_OPEN) {
    free_if_unlisted(conn);
    return;
  }
  struct turn *turn = &conn->worker->turn;
  if (turn_is_over(turn, &conn->share) || (conn->pauses & PAUSE_TURN && !turn->is_late)) {
    put_off(conn);
    return;
  }
  conn->pauses &= (uint8_t)~PAUSE_TURN;
  if (conn->pauses) return;
  uint64_t now = worker_now(conn->worker);
  if (conn->protocol->resumed) conn->protocol->resumed(conn, now - conn->active);
  conn->active = now; /* its silence was ours */
  if (conn->input_len) {
    turn_look(turn);
    size_t used = feed(conn, conn->input, conn->input_len);
    conn->input_len -= (uint32_t)used;
    if (conn->input_len == 0)
      drop_input(conn);
    else if (used)
      memmove(conn->input, conn->input + used, conn->input_len);
  }
  after_feed(conn);
  if (conn->state == CONN_OPEN && !conn->pauses) start_reading(conn);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
  (void)suggested;
  struct conn *conn = (struct conn *)handle;
  *buf = uv_buf_init((char *)conn->worker->read_buffer, (unsigned)worker_read_size());
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
  struct conn *conn = (struct conn *)stream;
  struct worker *w = conn->worker;
  if (n == 0) return;
  w->activity++;
  if (n < 0) {
    uv_read_stop(stream);
    conn->is_reading = false;
    if (n != UV_EOF) {
      conn_close(conn, n == UV_ECONNRESET ? "reset by peer" : uv_err_name((int)n));
      return;
    }
    conn->has_ended = true;
    if (conn->state == CONN_FINISHING) {
      if (conn_pending(conn) == 0) conn_close(conn, conn->why);
    } else if (!conn->pauses) {
      conn->protocol->end(conn);
    }
    return;
  }
  metric_add(&w->metrics.bytes_received, (uint64_t)n);
  if (conn->state == CONN_FINISHING) {
    conn->lingered += (uint32_t)n;
    if (conn->lingered > LINGER_BYTES) conn_close(conn, conn->why);
    return;
  }
  if (!conn->pauses) conn->active = worker_now(w); /* else it is when it is read again */
  uint8_t *data = (uint8_t *)buf->base;
  if (conn->input_len || conn->pauses) {
    keep_input(conn, data, (size_t)n);
    if (conn->pauses)
      after_feed(conn);
    else
      conn_feed_kept(conn);
    return;
  }
  size_t used = feed(conn, data, (size_t)n);
  if (used < (size_t)n && conn->state == CONN_OPEN) keep_input(conn, data + used, (size_t)n - used);
  after_feed(conn);
}

static void start_reading(struct conn *conn) {
  if (conn->is_reading || conn->has_ended || conn->state == CONN_CLOSED) return;
  conn->is_reading = uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) == 0;
  if (!conn->is_reading) conn_close(conn, "cannot read");
}

void conn_pause(struct conn *conn, enum conn_pause why) {
  conn->pauses |= (uint8_t)why;
}

void conn_resume(struct conn *conn, enum conn_pause why) {
  if (!(conn->pauses & why)) return;
  conn->pauses &= (uint8_t)~why;
  if (conn->pauses || conn->is_unpaused || conn->state != CONN_OPEN) return;
  if (conn->input_len == 0 && conn->is_reading && !conn->has_ended)
    return; /* nothing was held up */
  worker_feed_later(conn->worker, conn);
}

/* ---- beginning ------------------------------------------------------------------------------- */

static void on_accept_failed(uv_handle_t *handle) {
  free(handle);
}

static struct conn *new_conn(struct worker *w) {
  struct conn *conn = mem_zalloc(sizeof *conn + w->upper_size);
  conn->worker = w;
  uv_tcp_init(&w->loop, &conn->tcp);
  return conn;
}

static void begin(struct conn *conn) {
  struct worker *w = conn->worker;
  w->activity++;
  uv_tcp_nodelay(&conn->tcp, 1);
  conn->active = worker_now(w);
  worker_add_conn(w, conn);
  metric_add(&w->metrics.connections_accepted, 1);
  http_conn_begin(conn);
  start_reading(conn);
}

struct conn *conn_accept(struct worker *w, uv_stream_t *from) {
  struct conn *conn = new_conn(w);
  if (uv_accept(from, (uv_stream_t *)&conn->tcp) != 0) {
    uv_close((uv_handle_t *)&conn->tcp, on_accept_failed);
    return NULL;
  }
  begin(conn);
  return conn;
}

struct conn *conn_adopt(struct worker *w, uv_os_sock_t fd) {
  struct conn *conn = new_conn(w);
  if (uv_tcp_open(&conn->tcp, fd) != 0) {
    close(fd);
    uv_close((uv_handle_t *)&conn->tcp, on_accept_failed);
    return NULL;
  }
  begin(conn);
  return conn;
}

bool conn_peer(const struct conn *conn, char *address, size_t n, unsigned *port) {
  struct sockaddr_storage sa;
  int len = sizeof sa;
  if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&sa, &len) != 0) return false;
  if (sa.ss_family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)&sa;
    *port = ntohs(in->sin_port);
    return uv_ip4_name(in, address, n) == 0;
  }
  if (sa.ss_family == AF_INET6) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&sa;
    struct ip ip;
    char text[IP_TEXT];
    *port = ntohs(in6->sin6_port);
    memcpy(ip.bytes, &in6->sin6_addr, sizeof ip.bytes);
    ip_format(&ip, text); /* a client of IPv4 is known by that, whatever it came to */
    return (size_t)snprintf(address, n, "%s", text) < n;
  }
  *port = 0;
  return false;
}

unsigned conn_local_port(const struct conn *conn) {
  struct sockaddr_storage sa;
  int len = sizeof sa;
  if (uv_tcp_getsockname(&conn->tcp, (struct sockaddr *)&sa, &len) != 0) return 0;
  if (sa.ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)&sa)->sin_port);
  return sa.ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)&sa)->sin6_port) : 0;
}

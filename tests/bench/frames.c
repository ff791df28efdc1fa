/* SPDX-License-Identifier: MIT */
/* frames.c -- what reading masked text frames costs: wslay's event API, wslay's frame API with a
 * UTF-8 check, and wire/ws.c whole and cut. Prints nanoseconds a frame and the ratio to wire/ws.c.
 *
 *   cc -O3 -D_GNU_SOURCE -Iserver tests/bench/frames.c server/wire/ws.c server/wire/utf8.c
 *      server/base/mem.c -lwslay -o frames && ./frames */
#include "base/mem.h"
#include "wire/utf8.h"
#include "wire/ws.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wslay/wslay.h>

enum { ROUNDS = 5, BUFFER = 64 * 1024 };

static uint8_t input[BUFFER];
static size_t input_len, input_at;
static unsigned long got;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* As many frames of `len` bytes of text as fit a read buffer. Returns how many. */
static unsigned fill(size_t len) {
  unsigned n = 0;
  input_len = 0;
  while (input_len + len + 14 <= BUFFER && n < 16) {
    uint8_t *w = input + input_len;
    size_t h = 2;
    w[0] = 0x81;
    if (len < 126) {
      w[1] = (uint8_t)(0x80 | len);
    } else {
      w[1] = 0x80 | 126;
      w[2] = (uint8_t)(len >> 8);
      w[3] = (uint8_t)len;
      h = 4;
    }
    memcpy(w + h, "\x12\x34\x56\x78", 4);
    for (size_t i = 0; i < len; i++) w[h + 4 + i] = (uint8_t)('a' ^ "\x12\x34\x56\x78"[i & 3]);
    input_len += h + 4 + len;
    n++;
  }
  return n;
}

static ssize_t take(uint8_t *buf, size_t n) {
  if (n > input_len - input_at) n = input_len - input_at;
  memcpy(buf, input + input_at, n);
  input_at += n;
  return (ssize_t)n;
}

static ssize_t on_event_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t n, int flags,
                             void *user) {
  (void)flags;
  (void)user;
  if (input_at < input_len) return take(buf, n);
  wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
  return -1;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
                       void *user) {
  (void)ctx;
  (void)arg;
  (void)user;
  got++;
}

static wslay_event_context_ptr event_context;
static void by_event_api(void) {
  input_at = 0;
  wslay_event_recv(event_context);
}

static ssize_t on_frame_recv(uint8_t *buf, size_t n, int flags, void *user) {
  (void)flags;
  (void)user;
  return take(buf, n);
}

static wslay_frame_context_ptr frame_context;
static uint8_t assembled[BUFFER];
static void by_frame_api(void) {
  struct wslay_frame_iocb io;
  ssize_t k;
  size_t len = 0;
  uint32_t state = UTF8_DONE;
  input_at = 0;
  while ((k = wslay_frame_recv(frame_context, &io)) >= 0) {
    utf8_feed(&state, io.data, io.data_length);
    memcpy(assembled + len, io.data, io.data_length);
    len += io.data_length;
    if (len < io.payload_length) continue;
    got++;
    len = 0;
  }
}

static struct ws_reader reader;
static const struct ws_limits limits = {1 << 20, 64};
static uint8_t scratch[BUFFER]; /* ws_next unmasks in place */

static void feed(uint8_t *data, size_t n) {
  struct ws_event event;
  size_t used;
  while (ws_next(&reader, &limits, data, n, &used, &event) == WS_EVENT) {
    got++;
    data += used;
    n -= used;
  }
}

static void by_ws_whole(void) {
  memcpy(scratch, input, input_len); /* a read would have filled it: charged to us here */
  feed(scratch, input_len);
}

/* The last byte of each buffer comes late: the last frame goes the way of cut frames. */
static void by_ws_cut(void) {
  memcpy(scratch, input, input_len);
  feed(scratch, input_len - 1);
  feed(scratch + input_len - 1, 1);
}

static double measure(void (*fn)(void), unsigned frames, unsigned long rounds) {
  double best = 1e300;
  for (int r = 0; r < ROUNDS; r++) {
    double from = now();
    for (unsigned long i = 0; i < rounds; i++) fn();
    double each = (now() - from) / (double)(rounds * frames);
    if (each < best) best = each;
  }
  return best;
}

int main(void) {
  static const struct wslay_event_callbacks event_callbacks = {.recv_callback = on_event_recv,
                                                               .on_msg_recv_callback = on_message};
  static const struct wslay_frame_callbacks frame_callbacks = {.recv_callback = on_frame_recv};
  static const struct {
    const char *name;
    void (*fn)(void);
  } ways[] = {{"wire/ws.c, frame whole in the input", by_ws_whole},
              {"wire/ws.c, last frame of the input cut", by_ws_cut},
              {"wslay frame API + UTF-8 check + assembly", by_frame_api},
              {"wslay event API", by_event_api}};
  static const size_t sizes[] = {63, 1024, 10240};
  size_t before = mallinfo2().uordblks;
  wslay_event_context_server_init(&event_context, &event_callbacks, NULL);
  size_t event_bytes = mallinfo2().uordblks - before;
  before = mallinfo2().uordblks;
  wslay_frame_context_init(&frame_context, &frame_callbacks, NULL);
  size_t frame_bytes = mallinfo2().uordblks - before;
  printf("bytes a connection: wslay event context %zu, frame context %zu, struct ws_reader %zu\n",
         event_bytes, frame_bytes, sizeof(struct ws_reader));
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    unsigned frames = fill(sizes[s]);
    unsigned long rounds = sizes[s] < 1000 ? 20000 : 2000;
    double base = 0;
    printf("\n%zu bytes, %u frames a read\n", sizes[s], frames);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
      double ns = measure(ways[i].fn, frames, rounds);
      if (i == 0) base = ns;
      printf("  %-44s %9.1f ns  %5.1f x\n", ways[i].name, ns, ns / base);
    }
  }
  printf("\n%lu messages read\n", got);
  wslay_event_context_free(event_context);
  wslay_frame_context_free(frame_context);
  return 0;
}

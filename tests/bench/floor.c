/*
 * floor - the physical floor: what one thread of epoll + recv + send can do on this kernel.
 * No JSON: a WebSocket text frame is unmasked and sent back as it is; an HTTP POST body is sent
 * back as it is. Fan-out: a frame whose method starts with j (join) subscribes its connection; p
 * (publish) is formatted once and sent to every subscriber. All answers of one recv go out in one
 * send (--per-frame: one send each;
 * --batch-fanout: messages published in one loop turn go to each subscriber in one send).
 * A measuring aid, not a server: loopback only, minimal checks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
struct conn {
  u8 *in, *out;
  u32 nin, nout, offout;
  bool used, ws, sub;
};
#define MAXFD 262144
#define BUF   (1 << 20)
static struct conn *C;
static u8 rb[BUF], ob[BUF + 65536], fan[BUF];
static size_t no, nfan;
static int *subs, nsubs, ep;
static bool per_frame, batch_fan;

static void sha1(const u8 *d, size_t n, u8 *out) {
  u32 h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  u8 b[128] = {0};
  size_t tot = ((n + 8) / 64 + 1) * 64;
  memcpy(b, d, n), b[n] = 0x80, b[tot - 1] = (u8)(n * 8), b[tot - 2] = (u8)(n * 8 >> 8);
  for (size_t o = 0; o < tot; o += 64) {
    u32 w[80], a = h[0], bb = h[1], c = h[2], dd = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
      w[i] = (u32)b[o + 4 * i] << 24 | (u32)b[o + 4 * i + 1] << 16 | (u32)b[o + 4 * i + 2] << 8 |
             b[o + 4 * i + 3];
    for (int i = 16; i < 80; i++) {
      u32 x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
      w[i] = x << 1 | x >> 31;
    }
    for (int i = 0; i < 80; i++) {
      u32 f = i < 20              ? (bb & c) | (~bb & dd)
              : i < 40 || i >= 60 ? bb ^ c ^ dd
                                  : (bb & c) | (bb & dd) | (c & dd);
      u32 k = i < 20   ? 0x5A827999
              : i < 40 ? 0x6ED9EBA1
              : i < 60 ? 0x8F1BBCDC
                       : 0xCA62C1D6,
          t = (a << 5 | a >> 27) + f + e + k + w[i];
      e = dd, dd = c, c = bb << 30 | bb >> 2, bb = a, a = t;
    }
    h[0] += a, h[1] += bb, h[2] += c, h[3] += dd, h[4] += e;
  }
  for (int i = 0; i < 20; i++) out[i] = (u8)(h[i / 4] >> (24 - 8 * (i % 4)));
}
static void b64(const u8 *d, size_t n, char *o) {
  static const char T[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < n; i += 3) {
    u32 v = (u32)d[i] << 16 | (i + 1 < n ? (u32)d[i + 1] << 8 : 0) | (i + 2 < n ? d[i + 2] : 0);
    *o++ = T[v >> 18], *o++ = T[v >> 12 & 63], *o++ = i + 1 < n ? T[v >> 6 & 63] : '=',
    *o++ = i + 2 < n ? T[v & 63] : '=';
  }
  *o = 0;
}
static void drop(int fd) {
  struct conn *c = &C[fd];
  for (int i = 0; c->sub && i < nsubs; i++)
    if (subs[i] == fd) subs[i] = subs[--nsubs];
  free(c->in), free(c->out);
  memset(c, 0, sizeof *c);
  close(fd);
}
static void put(int fd, const u8 *p, size_t n) { /* send now, keep what does not fit */
  struct conn *c = &C[fd];
  if (c->nout == c->offout) {
    ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
    if (k == (ssize_t)n) return;
    if (k < 0 && errno != EAGAIN) return;
    if (k > 0) p += k, n -= (size_t)k;
    c->nout = c->offout = 0;
  }
  c->out = realloc(c->out, c->nout + n);
  memcpy(c->out + c->nout, p, n);
  c->nout += (u32)n;
}
static size_t head(u8 *w, size_t n) {
  w[0] = 0x81;
  if (n < 126) return w[1] = (u8)n, 2;
  if (n < 65536) return w[1] = 126, w[2] = (u8)(n >> 8), w[3] = (u8)n, 4;
  w[1] = 127;
  for (int i = 0; i < 8; i++) w[2 + i] = (u8)((u64)n >> (56 - 8 * i));
  return 10;
}
static void flush_out(int fd) {
  if (no) put(fd, ob, no);
  no = 0;
}
static void flush_fan(void) {
  for (int i = 0; nfan && i < nsubs; i++) put(subs[i], fan, nfan);
  nfan = 0;
}
static void publish(const u8 *p, size_t n) {
  static const char pre[] = "{\"jsonrpc\":\"2.0\",\"method\":\"message\",\"params\":";
  const u8 *a = memmem(p, n, "\"params\":", 9), *b = memmem(p, n, "},\"id\":", 7);
  if (!a || !b) return;
  a += 9;
  size_t pn = (size_t)(b + 1 - a), tot = sizeof pre - 1 + pn + 1;
  if (nfan + tot + 10 > sizeof fan) flush_fan();
  nfan += head(fan + nfan, tot);
  memcpy(fan + nfan, pre, sizeof pre - 1), memcpy(fan + nfan + sizeof pre - 1, a, pn),
      fan[nfan + tot - 1] = '}';
  nfan += tot;
  if (!batch_fan) flush_fan();
}
static size_t ws(int fd, u8 *p, size_t n) { /* handles whole frames, returns bytes used */
  size_t at = 0;
  while (n - at >= 6) {
    u8 *f = p + at;
    size_t len = f[1] & 127, h = 2;
    if (len == 126) {
      if (n - at < 8) break;
      len = (size_t)f[2] << 8 | f[3], h = 4;
    } else if (len == 127) {
      if (n - at < 14) break;
      len = 0, h = 10;
      for (int i = 2; i < 10; i++) len = len << 8 | f[i];
    }
    if (!(f[1] & 0x80) || len > BUF / 2) return (size_t)-1;
    if (n - at < h + 4 + len) break;
    u64 k = 0;
    u8 *d = f + h + 4;
    memcpy(&k, f + h, 4), k |= k << 32;
    if (no + len + 10 > sizeof ob) flush_out(fd);
    u8 *w = ob + no + head(ob + no, len);
    size_t i = 0;
    for (u64 v; i + 8 <= len; i += 8) memcpy(&v, d + i, 8), v ^= k, memcpy(w + i, &v, 8);
    for (; i < len; i++) w[i] = d[i] ^ (u8)(k >> (8 * (i & 7)));
    if ((f[0] & 15) == 8) return (size_t)-1;
    if ((f[0] & 15) == 1) {
      u8 *m = memmem(w, len < 64 ? len : 64, "\"method\":\"", 10);
      if (m && m[10] == 'j' && !C[fd].sub) C[fd].sub = true, subs[nsubs++] = fd;
      if (m && m[10] == 'p') publish(w, len);
      no = (size_t)(w - ob) + len;
      if (per_frame) flush_out(fd);
    }
    at += h + 4 + len;
  }
  return at;
}
static size_t http(int fd, u8 *p, size_t n) {
  size_t at = 0;
  while (at < n) {
    u8 *e = memmem(p + at, n - at, "\r\n\r\n", 4), *k;
    if (!e) break;
    size_t h = (size_t)(e - p) + 4 - at;
    if ((k = memmem(p + at, h, "Sec-WebSocket-Key: ", 19))) {
      char cat[80], acc[32];
      u8 dg[20];
      snprintf(cat, sizeof cat, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", (char *)k + 19);
      sha1((u8 *)cat, 60, dg), b64(dg, 20, acc);
      no += (size_t)sprintf((char *)ob + no,
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
                            "Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                            acc);
      C[fd].ws = true;
      size_t u = ws(fd, p + at + h, n - at - h);
      return u == (size_t)-1 ? u : at + h + u;
    }
    if (!(k = memmem(p + at, h, "Content-Length: ", 16))) return (size_t)-1;
    size_t len = strtoul((char *)k + 16, NULL, 10);
    if (n - at < h + len) break;
    if (len > BUF / 2) return (size_t)-1;
    if (no + len + 256 > sizeof ob) flush_out(fd);
    no += (size_t)sprintf(
        (char *)ob + no,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", len);
    memcpy(ob + no, p + at + h, len), no += len, at += h + len;
  }
  return at;
}
static void readable(int fd) {
  struct conn *c = &C[fd];
  size_t have = c->nin;
  if (have) memcpy(rb, c->in, have);
  ssize_t k = recv(fd, rb + have, sizeof rb - have, 0);
  if (k < 0 && errno == EAGAIN) return;
  if (k <= 0) {
    drop(fd);
    return;
  }
  size_t n = have + (size_t)k, u = c->ws ? ws(fd, rb, n) : http(fd, rb, n);
  if (u == (size_t)-1) {
    no = 0;
    drop(fd);
    return;
  }
  flush_out(fd);
  if ((c->nin = (u32)(n - u)))
    c->in = realloc(c->in, n - u), memcpy(c->in, rb + u, n - u);
  else if (c->in)
    free(c->in), c->in = NULL;
}
int main(int argc, char **argv) {
  int port = 9100, one = 1;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--port") && i + 1 < argc)
      port = atoi(argv[++i]);
    else if (!strcmp(argv[i], "--per-frame"))
      per_frame = true;
    else if (!strcmp(argv[i], "--batch-fanout"))
      batch_fan = true;
    else
      return fprintf(stderr, "floor [--port N] [--per-frame] [--batch-fanout]\n"), 2;
  }
  struct rlimit rl;
  getrlimit(RLIMIT_NOFILE, &rl), rl.rlim_cur = rl.rlim_max, setrlimit(RLIMIT_NOFILE, &rl);
  signal(SIGPIPE, SIG_IGN);
  C = calloc(MAXFD, sizeof *C), subs = calloc(MAXFD, sizeof *subs);
  int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_port = htons((uint16_t)port),
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(ls, (struct sockaddr *)&a, sizeof a) || listen(ls, 4096)) return perror("bind"), 1;
  ep = epoll_create1(0);
  struct epoll_event ev = {.events = EPOLLIN, .data.fd = ls}, evs[1024];
  epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev);
  printf("ready on %d\n", port), fflush(stdout);
  for (;;) {
    int n = epoll_wait(ep, evs, 1024, -1);
    for (int i = 0; i < n; i++) {
      int fd = evs[i].data.fd;
      if (fd == ls) {
        int s;
        while ((s = accept4(ls, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          if (s >= MAXFD) {
            close(s);
            continue;
          }
          setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          ev.events = EPOLLIN | EPOLLOUT | EPOLLET, ev.data.fd = s;
          C[s].used = true;
          epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev);
        }
        continue;
      }
      struct conn *c = &C[fd];
      if (c->used && (evs[i].events & EPOLLOUT) && c->nout > c->offout) {
        ssize_t k = send(fd, c->out + c->offout, c->nout - c->offout, MSG_NOSIGNAL);
        if (k > 0) c->offout += (u32)k;
        if (c->offout == c->nout) free(c->out), c->out = NULL, c->nout = c->offout = 0;
      }
      if (c->used && (evs[i].events & ~(u32)EPOLLOUT)) readable(fd);
    }
    if (batch_fan) flush_fan();
  }
}

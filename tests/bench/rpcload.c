/*
 * rpcload - a verifying load generator for JSON-RPC 2.0 servers (WebSocket and HTTP/1.1).
 *
 *   rpcload ws-rpc   N connections, D requests in flight each, over WebSocket
 *   rpcload http-rpc the same over HTTP/1.1 keep-alive POST
 *   rpcload fanout   N subscribers + 1 publisher; checks order and completeness
 *   rpcload idle     N idle WebSocket connections; server memory per connection
 *
 * Single threaded (idle forks holders when N is over the fd limit), epoll, libc only.
 * Only loopback targets (127.0.0.0/8) are accepted, and every run is bounded in time.
 * See README.md beside this file; `rpcload --help` lists the options.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  fputs("rpcload: ", stderr);
  vfprintf(stderr, fmt, ap);
  fputc('\n', stderr);
  va_end(ap);
  exit(2);
}
static void *xalloc(size_t n) {
  void *p = calloc(1, n ? n : 1);
  if (!p) die("out of memory");
  return p;
}
static void *xre(void *q, size_t n) {
  void *p = realloc(q, n);
  if (!p) die("out of memory");
  return p;
}
static inline u64 now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

/* ------------------------------------------------------------------ options */
enum mode { M_WS, M_HTTP, M_FANOUT, M_IDLE };
static struct {
  enum mode mode;
  const char *mode_name, *name, *host, *path, *proto, *hdr;
  int port, conns, depth, cpu, conc;
  u64 requests, warm_requests, messages;
  double seconds, warmup, rate, settle, stall;
  long payload;
  const char *tpl, *expect, *group, *join, *publish;
  bool raw, json, spin, quiet, children, no_touch, nobatch;
} o = {
    .name = "",
    .host = "127.0.0.1",
    .path = "/rpc",
    .port = 9000,
    .conns = 64,
    .depth = 1,
    .cpu = -1,
    .conc = 32,
    .seconds = 5,
    .warmup = 1,
    .settle = 3,
    .stall = 15,
    .payload = -1,
    .group = "bench",
};

/* ------------------------------------------------------------------ server pids, CPU, memory */
#define MAXPID 256
static int pids[MAXPID], npids;
static clockid_t pclk[MAXPID];

static void add_pid(int p) {
  for (int i = 0; i < npids; i++)
    if (pids[i] == p) return;
  if (npids == MAXPID) die("too many pids");
  if (clock_getcpuclockid(p, &pclk[npids])) die("no such process: %d", p);
  pids[npids++] = p;
}
/* adds the descendants of the pids that were given */
static void add_children(void) {
  bool again = true;
  while (again) {
    again = false;
    DIR *d = opendir("/proc");
    struct dirent *e;
    if (!d) return;
    while ((e = readdir(d))) {
      int p = atoi(e->d_name), ppid = 0;
      char fn[64], buf[512];
      if (p <= 0) continue;
      snprintf(fn, sizeof fn, "/proc/%d/stat", p);
      FILE *f = fopen(fn, "r");
      if (!f) continue;
      size_t n = fread(buf, 1, sizeof buf - 1, f);
      fclose(f);
      buf[n] = 0;
      char *q = strrchr(buf, ')');
      if (!q || sscanf(q + 1, " %*c %d", &ppid) != 1) continue;
      int before = npids;
      for (int i = 0; i < before; i++)
        if (pids[i] == ppid) add_pid(p);
      if (npids != before) again = true;
    }
    closedir(d);
  }
}
struct cpu {
  u64 ns;      /* utime+stime at scheduler (ns) resolution */
  u64 ut, st;  /* clock ticks: only for the user/system split */
  u64 runwait; /* ns runnable but waiting for a CPU (disturbance by others) */
  u64 nivcsw, nvcsw;
};
static struct cpu cpu_read(void) {
  struct cpu c = {0};
  for (int i = 0; i < npids; i++) {
    struct timespec t;
    char fn[96], buf[1024];
    if (clock_gettime(pclk[i], &t) == 0) c.ns += (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
    snprintf(fn, sizeof fn, "/proc/%d/stat", pids[i]);
    FILE *f = fopen(fn, "r");
    if (f) {
      size_t n = fread(buf, 1, sizeof buf - 1, f);
      buf[n] = 0;
      fclose(f);
      char *q = strrchr(buf, ')');
      unsigned long ut = 0, st = 0;
      if (q && sscanf(q + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &ut, &st) == 2)
        c.ut += ut, c.st += st;
    }
    snprintf(fn, sizeof fn, "/proc/%d/task", pids[i]);
    DIR *d = opendir(fn);
    struct dirent *e;
    while (d && (e = readdir(d))) {
      unsigned long long a = 0, b = 0;
      if (!isdigit((unsigned char)e->d_name[0])) continue;
      snprintf(fn, sizeof fn, "/proc/%d/task/%.20s/schedstat", pids[i], e->d_name);
      if ((f = fopen(fn, "r"))) {
        if (fscanf(f, "%llu %llu", &a, &b) == 2) c.runwait += b;
        fclose(f);
      }
      snprintf(fn, sizeof fn, "/proc/%d/task/%.20s/status", pids[i], e->d_name);
      if ((f = fopen(fn, "r"))) {
        while (fgets(buf, sizeof buf, f)) {
          if (sscanf(buf, "voluntary_ctxt_switches: %llu", &a) == 1) c.nvcsw += a;
          if (sscanf(buf, "nonvoluntary_ctxt_switches: %llu", &a) == 1) c.nivcsw += a;
        }
        fclose(f);
      }
    }
    if (d) closedir(d);
  }
  return c;
}
static u64 self_cpu_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}
static double server_age(void) { /* seconds since the first pid started, for the record */
  char fn[64], buf[1024];
  if (!npids) return 0;
  snprintf(fn, sizeof fn, "/proc/%d/stat", pids[0]);
  FILE *f = fopen(fn, "r");
  if (!f) return 0;
  size_t n = fread(buf, 1, sizeof buf - 1, f);
  fclose(f);
  buf[n] = 0;
  char *q = strrchr(buf, ')');
  unsigned long long start = 0;
  struct timespec t;
  if (!q ||
      sscanf(q + 1,
             " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
             &start) != 1)
    return 0;
  clock_gettime(CLOCK_BOOTTIME, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9 - (double)start / (double)sysconf(_SC_CLK_TCK);
}
struct mem {
  long rss, pss, uss, vmrss, threads; /* KiB */
  long k_tcp, k_slab;                 /* KiB, whole machine */
};
static struct mem mem_read(void) {
  struct mem m = {0};
  char fn[64], b[512];
  long v;
  FILE *f;
  for (int i = 0; i < npids; i++) {
    snprintf(fn, sizeof fn, "/proc/%d/smaps_rollup", pids[i]);
    if ((f = fopen(fn, "r"))) {
      while (fgets(b, sizeof b, f)) {
        if (sscanf(b, "Rss: %ld", &v) == 1) m.rss += v;
        if (sscanf(b, "Pss: %ld", &v) == 1) m.pss += v;
        if (sscanf(b, "Private_Clean: %ld", &v) == 1) m.uss += v;
        if (sscanf(b, "Private_Dirty: %ld", &v) == 1) m.uss += v;
      }
      fclose(f);
    }
    snprintf(fn, sizeof fn, "/proc/%d/status", pids[i]);
    if ((f = fopen(fn, "r"))) {
      while (fgets(b, sizeof b, f)) {
        if (sscanf(b, "VmRSS: %ld", &v) == 1) m.vmrss += v;
        if (sscanf(b, "Threads: %ld", &v) == 1) m.threads += v;
      }
      fclose(f);
    }
  }
  if ((f = fopen("/proc/net/sockstat", "r"))) {
    while (fgets(b, sizeof b, f))
      if (sscanf(b, "TCP: inuse %*d orphan %*d tw %*d alloc %*d mem %ld", &v) == 1) m.k_tcp = v * 4;
    fclose(f);
  }
  if ((f = fopen("/proc/meminfo", "r"))) {
    while (fgets(b, sizeof b, f))
      if (sscanf(b, "Slab: %ld", &v) == 1) m.k_slab = v;
    fclose(f);
  }
  return m;
}

/* ------------------------------------------------------------------ histogram (ns, <1% error) */
#define HSUB     128
#define HBUCKETS (HSUB * 40)
struct hist {
  u64 b[HBUCKETS], n, max, min;
  double sum;
};
static inline int hidx(u64 v) {
  if (v < HSUB) return (int)v;
  int sh = 63 - __builtin_clzll(v) - 7; /* v>>sh in [128,256) */
  int i = (sh + 1) * HSUB + (int)((v >> sh) - HSUB);
  return i < HBUCKETS ? i : HBUCKETS - 1;
}
static inline void hadd(struct hist *h, u64 v) {
  h->b[hidx(v)]++;
  h->n++;
  h->sum += (double)v;
  if (v > h->max) h->max = v;
}
static double hq(const struct hist *h, double q) { /* microseconds */
  u64 want = (u64)(q * (double)h->n + 0.9999999), seen = 0;
  if (!h->n) return 0;
  if (!want) want = 1;
  for (int i = 0; i < HBUCKETS; i++) {
    seen += h->b[i];
    if (seen >= want) {
      double v;
      if (i < HSUB)
        v = i;
      else {
        int sh = i / HSUB - 1;
        v = (double)((u64)(i % HSUB + HSUB) << sh) + (double)(1ull << sh) / 2;
      }
      if (v > (double)h->max) v = (double)h->max;
      return v / 1e3;
    }
  }
  return (double)h->max / 1e3;
}
static struct hist lat, lat2;

/* ------------------------------------------------------------------ sha1 + base64 (handshake
 * check) */
static void sha1(const u8 *d, size_t n, u8 out[20]) {
  u32 h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  u8 blk[192] = {0};
  size_t tot = ((n + 8) / 64 + 1) * 64;
  if (tot > sizeof blk) die("sha1 input");
  memcpy(blk, d, n);
  blk[n] = 0x80;
  for (int i = 0; i < 8; i++) blk[tot - 1 - i] = (u8)((u64)n * 8 >> (8 * i));
  for (size_t off = 0; off < tot; off += 64) {
    u32 w[80], a = h[0], b = h[1], c = h[2], dd = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
      w[i] = (u32)blk[off + 4 * i] << 24 | (u32)blk[off + 4 * i + 1] << 16 |
             (u32)blk[off + 4 * i + 2] << 8 | blk[off + 4 * i + 3];
    for (int i = 16; i < 80; i++) {
      u32 x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
      w[i] = x << 1 | x >> 31;
    }
    for (int i = 0; i < 80; i++) {
      u32 f, k;
      if (i < 20)
        f = (b & c) | (~b & dd), k = 0x5A827999;
      else if (i < 40)
        f = b ^ c ^ dd, k = 0x6ED9EBA1;
      else if (i < 60)
        f = (b & c) | (b & dd) | (c & dd), k = 0x8F1BBCDC;
      else
        f = b ^ c ^ dd, k = 0xCA62C1D6;
      u32 t = (a << 5 | a >> 27) + f + e + k + w[i];
      e = dd, dd = c, c = b << 30 | b >> 2, b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += dd, h[4] += e;
  }
  for (int i = 0; i < 20; i++) out[i] = (u8)(h[i / 4] >> (24 - 8 * (i % 4)));
}
static void b64(const u8 *d, size_t n, char *out) {
  static const char T[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < n; i += 3) {
    u32 v = (u32)d[i] << 16 | (i + 1 < n ? (u32)d[i + 1] << 8 : 0) | (i + 2 < n ? d[i + 2] : 0);
    *out++ = T[v >> 18];
    *out++ = T[v >> 12 & 63];
    *out++ = i + 1 < n ? T[v >> 6 & 63] : '=';
    *out++ = i + 2 < n ? T[v & 63] : '=';
  }
  *out = 0;
}
static u64 rng = 0x9E3779B97F4A7C15ull;
static inline u64 rnd(void) {
  rng ^= rng << 13;
  rng ^= rng >> 7;
  rng ^= rng << 17;
  return rng;
}

/* ------------------------------------------------------------------ JSON: strict scan of one
 * document */
struct jinfo {
  bool id, id_int, result, error, jsonrpc, method, seq;
  u64 idv, seqv;
  const u8 *res;
  size_t reslen;
};
static const u8 *js_ws(const u8 *p, const u8 *e) {
  while (p < e && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}
static const u8 *js_utf8(const u8 *p, const u8 *e) { /* p at a byte >= 0x80 */
  u8 c = *p;
  int n = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC2 ? 1 : -1;
  if (n < 0 || c > 0xF4 || e - p <= n) return NULL;
  for (int i = 1; i <= n; i++)
    if ((p[i] & 0xC0) != 0x80) return NULL;
  if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) || (c == 0xF0 && p[1] < 0x90) ||
      (c == 0xF4 && p[1] > 0x8F))
    return NULL;
  return p + n + 1;
}
static const u8 *
js_str(const u8 *p, const u8 *e) { /* p after the opening quote; returns after the closing one */
  for (;;) {
    while (e - p >= 8) { /* eight plain bytes at a time */
      u64 v, q, b, c;
      memcpy(&v, p, 8);
      q = v ^ 0x2222222222222222ull;
      b = v ^ 0x5C5C5C5C5C5C5C5Cull;
      c = (q - 0x0101010101010101ull) & ~q;
      c |= (b - 0x0101010101010101ull) & ~b;
      c |= (v - 0x2020202020202020ull) & ~v;
      c |= v;
      if (c & 0x8080808080808080ull) break;
      p += 8;
    }
    if (p >= e) return NULL;
    u8 ch = *p;
    if (ch == '"') return p + 1;
    if (ch < 0x20) return NULL;
    if (ch == '\\') {
      if (e - p < 2) return NULL;
      ch = p[1];
      if (ch == 'u') {
        if (e - p < 6) return NULL;
        for (int i = 2; i < 6; i++)
          if (!isxdigit(p[i])) return NULL;
        p += 6;
      } else {
        if (!ch || !strchr("\"\\/bfnrt", ch)) return NULL;
        p += 2;
      }
    } else if (ch >= 0x80) {
      if (!(p = js_utf8(p, e))) return NULL;
    } else
      p++;
  }
}
static const u8 *js_num(const u8 *p, const u8 *e, bool *isint, u64 *val) {
  const u8 *s = p;
  u64 v = 0;
  bool in = true;
  if (p < e && *p == '-') p++, in = false;
  if (p >= e || !isdigit(*p)) return NULL;
  if (*p == '0' && p + 1 < e && isdigit(p[1])) return NULL;
  while (p < e && isdigit(*p)) v = v * 10 + (u64)(*p++ - '0');
  if (p < e && *p == '.') {
    in = false;
    if (++p >= e || !isdigit(*p)) return NULL;
    while (p < e && isdigit(*p)) p++;
  }
  if (p < e && (*p == 'e' || *p == 'E')) {
    in = false;
    p++;
    if (p < e && (*p == '+' || *p == '-')) p++;
    if (p >= e || !isdigit(*p)) return NULL;
    while (p < e && isdigit(*p)) p++;
  }
  if (p - s > 18) in = false;
  *isint = in;
  *val = v;
  return p;
}
static const u8 *js_val(const u8 *p, const u8 *e, int depth, struct jinfo *ji) {
  bool isint;
  u64 v;
  p = js_ws(p, e);
  if (p >= e || depth > 64) return NULL;
  switch (*p) {
  case '{':
    p = js_ws(p + 1, e);
    if (p < e && *p == '}') return p + 1;
    for (;;) {
      const u8 *k, *ke, *vs;
      p = js_ws(p, e);
      if (p >= e || *p != '"') return NULL;
      k = p + 1;
      if (!(p = js_str(k, e))) return NULL;
      ke = p - 1;
      p = js_ws(p, e);
      if (p >= e || *p != ':') return NULL;
      p = js_ws(p + 1, e);
      vs = p;
      if (!(p = js_val(p, e, depth + 1, ji))) return NULL;
#define KEY(s) (ke - k == sizeof(s) - 1 && !memcmp(k, s, sizeof(s) - 1))
      if (depth == 0) {
        if (KEY("id")) {
          if (ji->id) return NULL; /* twice */
          ji->id = true;
          if (js_num(vs, p, &isint, &v) && isint) ji->id_int = true, ji->idv = v;
        } else if (KEY("result"))
          ji->result = true, ji->res = vs, ji->reslen = (size_t)(p - vs);
        else if (KEY("error"))
          ji->error = !(p - vs == 4 && !memcmp(vs, "null", 4)) || ji->error;
        else if (KEY("jsonrpc"))
          ji->jsonrpc = p - vs == 5 && !memcmp(vs, "\"2.0\"", 5);
        else if (KEY("method"))
          ji->method = true;
      } else if (depth == 1 && KEY("seq")) {
        if (js_num(vs, p, &isint, &v) && isint) ji->seq = true, ji->seqv = v;
      }
      p = js_ws(p, e);
      if (p >= e) return NULL;
      if (*p == '}') return p + 1;
      if (*p++ != ',') return NULL;
    }
  case '[':
    p = js_ws(p + 1, e);
    if (p < e && *p == ']') return p + 1;
    for (;;) {
      if (!(p = js_val(p, e, depth + 1, ji))) return NULL;
      p = js_ws(p, e);
      if (p >= e) return NULL;
      if (*p == ']') return p + 1;
      if (*p++ != ',') return NULL;
    }
  case '"': return js_str(p + 1, e);
  case 't': return e - p >= 4 && !memcmp(p, "true", 4) ? p + 4 : NULL;
  case 'f': return e - p >= 5 && !memcmp(p, "false", 5) ? p + 5 : NULL;
  case 'n': return e - p >= 4 && !memcmp(p, "null", 4) ? p + 4 : NULL;
  default: return js_num(p, e, &isint, &v);
  }
}
static bool js_doc(const u8 *p, size_t n, struct jinfo *ji) {
  const u8 *e = p + n;
  memset(ji, 0, sizeof *ji);
  p = js_ws(p, e);
  if (p >= e || *p != '{') return false;
  p = js_val(p, e, 0, ji);
  return p && js_ws(p, e) == e;
}

/* ------------------------------------------------------------------ request templates */
struct part {
  char *lit;
  size_t n;
  char var; /* 0 literal, 'i' id, 's' seq, 'c' connection number */
};
struct tpl {
  struct part p[32];
  int n;
  size_t max;
};
static char *payload_text;
static void tpl_lit(struct tpl *t, const char *s, size_t n) {
  if (!n) return;
  if (t->n && !t->p[t->n - 1].var) {
    struct part *q = &t->p[t->n - 1];
    q->lit = xre(q->lit, q->n + n);
    memcpy(q->lit + q->n, s, n);
    q->n += n;
  } else {
    if (t->n == 32) die("template too complex");
    t->p[t->n].lit = xalloc(n);
    memcpy(t->p[t->n].lit, s, n);
    t->p[t->n++].n = n;
  }
  t->max += n;
}
static void tpl_make(struct tpl *t, const char *s) {
  memset(t, 0, sizeof *t);
  while (*s) {
    const char *d = strchr(s, '$');
    if (!d) {
      tpl_lit(t, s, strlen(s));
      break;
    }
    tpl_lit(t, s, (size_t)(d - s));
    if (!strncmp(d, "$PAYLOAD", 8))
      tpl_lit(t, payload_text, strlen(payload_text)), s = d + 8;
    else if (!strncmp(d, "$GROUP", 6))
      tpl_lit(t, o.group, strlen(o.group)), s = d + 6;
    else {
      char v = !strncmp(d, "$ID", 3)     ? 'i'
               : !strncmp(d, "$SEQ", 4)  ? 's'
               : !strncmp(d, "$CONN", 5) ? 'c'
                                         : 0;
      if (!v) {
        tpl_lit(t, d, 1);
        s = d + 1;
        continue;
      }
      if (t->n == 32) die("template too complex");
      t->p[t->n++].var = v;
      t->max += 20;
      s = d + (v == 'i' ? 3 : v == 's' ? 4 : 5);
    }
  }
}
static inline u8 *put_u64(u8 *w, u64 v) {
  u8 b[20];
  int n = 0;
  do b[n++] = (u8)('0' + v % 10);
  while (v /= 10);
  while (n) *w++ = b[--n];
  return w;
}
static inline size_t tpl_put(const struct tpl *t, u8 *w, u64 id, u64 seq, u64 conn) {
  u8 *s = w;
  for (int i = 0; i < t->n; i++) {
    const struct part *q = &t->p[i];
    if (!q->var)
      memcpy(w, q->lit, q->n), w += q->n;
    else
      w = put_u64(w, q->var == 'i' ? id : q->var == 's' ? seq : conn);
  }
  return (size_t)(w - s);
}

/* ------------------------------------------------------------------ connections */
enum { S_NEW, S_CONN, S_HAND, S_OPEN, S_DEAD };
struct slot {
  u64 id, t;
};
struct conn {
  int fd, idx, st;
  u8 *pb, *ob; /* unparsed input, unsent output (only when there is some) */
  u32 pl, pc, ol, oo, oc;
  struct slot *ring;
  u32 rh, rn;
  u64 t0, seq;
  char acc[32];
};
static struct conn *C;
static int ep, nconn;
static u64 next_id = 1, n_ok, n_err, n_errresp, inflight_total, total_issued, ctl_ping;
static u64 last_progress;
static bool issuing, in_window;
static struct tpl T_req, T_join, T_pub, T_exp;
static u8 *exp_fixed;
static size_t exp_fixed_n;
static u8 *rb; /* shared receive buffer */
#define RBSZ (1 << 20)
static u8 *sb; /* shared send buffer */
static size_t sbcap;
static int errshown;
static int open_count, dead_count;

static void err(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void err(struct conn *c, const char *fmt, ...) {
  n_err++;
  if (errshown++ < 10) {
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "rpcload: connection %d: ", c ? c->idx : -1);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
  }
}
static void conn_dead(struct conn *c) {
  if (c->st == S_DEAD) return;
  if (c->st == S_OPEN) open_count--;
  c->st = S_DEAD;
  dead_count++;
  close(c->fd);
  c->fd = -1;
  inflight_total -= c->rn; /* counted as lost at the end: issued - answered */
  c->rn = 0;
}
static u8 *sb_need(size_t n) {
  if (n > sbcap) sb = xre(sb, sbcap = n * 2);
  return sb;
}
static void conn_flush(struct conn *c) {
  while (c->oo < c->ol) {
    ssize_t k = send(c->fd, c->ob + c->oo, c->ol - c->oo, MSG_NOSIGNAL);
    if (k < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      err(c, "send: %s", strerror(errno));
      conn_dead(c);
      return;
    }
    c->oo += (u32)k;
  }
  c->oo = c->ol = 0;
}
static void conn_send(struct conn *c, const u8 *p, size_t n) {
  if (c->st == S_DEAD) return;
  if (c->oo == c->ol) {
    while (n) {
      ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
      if (k < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN) break;
        err(c, "send: %s", strerror(errno));
        conn_dead(c);
        return;
      }
      p += k;
      n -= (size_t)k;
    }
    if (!n) return;
    c->oo = c->ol = 0;
  }
  if (c->ol + n > c->oc) c->ob = xre(c->ob, c->oc = (u32)(c->ol + n) * 2);
  memcpy(c->ob + c->ol, p, n);
  c->ol += (u32)n;
}
/* builds one masked frame at w from n bytes already placed at w+14; returns the frame's start */
static u8 *ws_frame(u8 *w, size_t n, int opcode, size_t *len) {
  u8 *pl = w + 14, *h;
  u64 m = rnd();
  u32 k = (u32)m;
  size_t hl = n < 126 ? 6 : n < 65536 ? 8 : 14;
  h = pl - hl;
  h[0] = (u8)(0x80 | opcode);
  if (n < 126)
    h[1] = (u8)(0x80 | n);
  else if (n < 65536)
    h[1] = 0x80 | 126, h[2] = (u8)(n >> 8), h[3] = (u8)n;
  else {
    h[1] = 0x80 | 127;
    for (int i = 0; i < 8; i++) h[2 + i] = (u8)((u64)n >> (56 - 8 * i));
  }
  memcpy(pl - 4, &k, 4);
  u64 kk = (u64)k << 32 | k;
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    u64 v;
    memcpy(&v, pl + i, 8);
    v ^= kk;
    memcpy(pl + i, &v, 8);
  }
  for (; i < n; i++) pl[i] ^= (u8)(k >> (8 * (i & 3)));
  *len = hl + n;
  return h;
}
static char http_head[512];
static size_t http_head_n;

/* renders one request (frame or HTTP POST) at w; returns its length (moved to w) */
static size_t render(struct conn *c, const struct tpl *t, u8 *w, u64 id, u64 seq) {
  size_t n, len;
  if (o.mode == M_HTTP) {
    u8 *body = w + http_head_n + 32, *q;
    n = tpl_put(t, body, id, seq, (u64)c->idx);
    q = w;
    memcpy(q, http_head, http_head_n);
    q += http_head_n;
    q = put_u64(q, n);
    memcpy(q, "\r\n\r\n", 4);
    q += 4;
    memmove(q, body, n);
    return (size_t)(q + n - w);
  }
  n = tpl_put(t, w + 14, id, seq, (u64)c->idx);
  u8 *h = ws_frame(w, n, 1, &len);
  if (h != w) memmove(w, h, len);
  return len;
}
static void issue(struct conn *c, const struct tpl *t, u32 k, u64 now, u64 seq) {
  if (!k || c->st != S_OPEN) return;
  size_t per = t->max + http_head_n + 64;
  u8 *b = sb_need(per * k + 64);
  size_t off = 0;
  for (u32 i = 0; i < k; i++) {
    u64 id = next_id++;
    struct slot *s = &c->ring[(c->rh + c->rn) % (u32)o.depth];
    s->id = id;
    s->t = now;
    c->rn++;
    inflight_total++;
    total_issued++;
    size_t n = render(c, t, b + off, id, seq + i);
    if (o.nobatch) {
      conn_send(c, b + off, n);
      if (c->st != S_OPEN) return;
    } else
      off += n;
  }
  if (off) conn_send(c, b, off);
}

/* matches a response id to an outstanding request: exactly once */
static bool match(struct conn *c, u64 id, u64 *t) {
  u32 D = (u32)o.depth;
  for (u32 i = 0; i < c->rn; i++) {
    u32 at = (c->rh + i) % D;
    if (c->ring[at].id != id) continue;
    *t = c->ring[at].t;
    for (; i > 0; i--) { /* out of order: close the gap towards the head */
      u32 a = (c->rh + i) % D, b = (c->rh + i - 1) % D;
      c->ring[a] = c->ring[b];
    }
    c->rh = (c->rh + 1) % D;
    c->rn--;
    inflight_total--;
    return true;
  }
  return false;
}
/* fan-out bookkeeping */
#define PRING 65536
static u64 pub_t[PRING];
static u32 pub_left[PRING];
static u64 pub_next, pub_done, deliveries, nsub;
static u64 window_deliveries, window_msgs;
static bool joined_phase;
static u64 joined;

static void pub_complete_check(u64 seq, u64 now) {
  if (--pub_left[seq % PRING]) return;
  pub_done++;
  if (in_window) window_msgs++, hadd(&lat2, now - pub_t[seq % PRING]);
}
/* checks one JSON-RPC response; true if it answered an outstanding request */
static bool check_response(struct conn *c, const u8 *p, size_t n, struct jinfo *ji, u64 *t) {
  if (!ji->id || !ji->id_int) {
    err(c, "response without an integer id: %.*s", (int)(n > 200 ? 200 : n), (const char *)p);
    return false;
  }
  if (!match(c, ji->idv, t)) {
    err(c, "id %llu was not outstanding (answered twice, or never asked): %.*s",
        (unsigned long long)ji->idv, (int)(n > 200 ? 200 : n), (const char *)p);
    return false;
  }
  if (o.raw) return true;
  if (!ji->jsonrpc || ji->result == ji->error) {
    if (!(ji->result && ji->jsonrpc)) {
      err(c, "not a JSON-RPC 2.0 response: %.*s", (int)(n > 200 ? 200 : n), (const char *)p);
      return false;
    }
  }
  if (ji->error) {
    n_errresp++;
    err(c, "error response: %.*s", (int)(n > 300 ? 300 : n), (const char *)p);
    return false;
  }
  return true;
}
static void on_message(struct conn *c, const u8 *p, size_t n, u64 now) {
  struct jinfo ji;
  u64 t = 0;
  last_progress = now;
  if (!js_doc(p, n, &ji)) {
    err(c, "not one well-formed JSON object: %.*s", (int)(n > 200 ? 200 : n), (const char *)p);
    return;
  }
  if (o.mode == M_FANOUT && (u64)c->idx < nsub && !ji.id) { /* a notification at a subscriber */
    if (!ji.seq || (!o.raw && (!ji.method || !ji.jsonrpc))) {
      err(c, "bad notification: %.*s", (int)(n > 200 ? 200 : n), (const char *)p);
      return;
    }
    if (ji.seqv != c->seq) {
      err(c, "expected message %llu, got %llu", (unsigned long long)c->seq,
          (unsigned long long)ji.seqv);
      if (ji.seqv < c->seq) return;
    }
    if (ji.seqv >= pub_next) {
      err(c, "message %llu was never published", (unsigned long long)ji.seqv);
      return;
    }
    c->seq = ji.seqv + 1;
    deliveries++;
    if (in_window) window_deliveries++, hadd(&lat, now - pub_t[ji.seqv % PRING]);
    pub_complete_check(ji.seqv, now);
    return;
  }
  if (!check_response(c, p, n, &ji, &t)) return;
  n_ok++;
  if (o.mode == M_FANOUT) {
    if (joined_phase)
      joined++;
    else
      pub_complete_check(t, now); /* the publisher's ring keeps the seq in t */
    return;
  }
  if (exp_fixed && !o.raw && (ji.reslen != exp_fixed_n || memcmp(ji.res, exp_fixed, exp_fixed_n))) {
    err(c, "wrong result: %.*s", (int)(ji.reslen > 200 ? 200 : ji.reslen), (const char *)ji.res);
    return;
  }
  if (in_window) hadd(&lat, now - t);
}

/* one WebSocket frame at p; 0 = need more, <0 = error */
static long ws_parse(struct conn *c, u8 *p, size_t n, u64 now) {
  if (n < 2) return 0;
  u64 len = p[1] & 0x7F;
  size_t h = 2;
  if (p[1] & 0x80) return err(c, "masked frame from the server"), -1;
  if (p[0] & 0x70) return err(c, "reserved bits set: %02x", p[0]), -1;
  if (len == 126) {
    if (n < 4) return 0;
    len = (u64)p[2] << 8 | p[3];
    h = 4;
    if (len < 126) return err(c, "length not minimal"), -1;
  } else if (len == 127) {
    if (n < 10) return 0;
    len = 0;
    for (int i = 0; i < 8; i++) len = len << 8 | p[2 + i];
    h = 10;
    if (len < 65536) return err(c, "length not minimal"), -1;
  }
  if (len > 64u << 20) return err(c, "frame of %llu bytes", (unsigned long long)len), -1;
  if (n < h + len) return 0;
  int op = p[0] & 15;
  if (!(p[0] & 0x80)) return err(c, "fragmented message (opcode %d)", op), -1;
  if (op == 1)
    on_message(c, p + h, len, now);
  else if (op == 9) { /* ping -> pong */
    u8 b[160];
    size_t fl;
    if (len > 125) return err(c, "long ping"), -1;
    memcpy(b + 14, p + h, len);
    u8 *f = ws_frame(b, len, 10, &fl);
    conn_send(c, f, fl);
    ctl_ping++;
  } else if (op == 10) {
  } else if (op == 8)
    return err(c, "server closed: code %d", len >= 2 ? p[h] << 8 | p[h + 1] : 0), -1;
  else
    return err(c, "opcode %d, not a text frame", op), -1;
  return c->st == S_DEAD ? -1 : (long)(h + len);
}
static const char *hdr_find(const char *h, const char *e, const char *name, size_t *vl) {
  size_t nl = strlen(name);
  while (h < e) {
    const char *eol = memchr(h, '\n', (size_t)(e - h));
    if (!eol) eol = e;
    if ((size_t)(eol - h) > nl && h[nl] == ':' && !strncasecmp(h, name, nl)) {
      const char *v = h + nl + 1, *ve = eol;
      while (v < ve && (*v == ' ' || *v == '\t')) v++;
      while (ve > v && (ve[-1] == '\r' || ve[-1] == ' ')) ve--;
      *vl = (size_t)(ve - v);
      return v;
    }
    h = eol + 1;
  }
  return NULL;
}
static long http_parse(struct conn *c, u8 *p, size_t n, u64 now) {
  u8 *he = memmem(p, n, "\r\n\r\n", 4);
  if (!he) return n > 65536 ? (err(c, "headers over 64 KiB"), -1) : 0;
  const char *h = (char *)p, *e = (char *)he + 2;
  size_t vl;
  if (memcmp(h, "HTTP/1.1 200", 12)) return err(c, "status: %.60s", h), -1;
  const char *v = hdr_find(h, e, "content-length", &vl);
  size_t hl = (size_t)(he - p) + 4;
  if (v) {
    size_t len = strtoul(v, NULL, 10);
    if (n < hl + len) return 0;
    on_message(c, p + hl, len, now);
    hl += len;
  } else if ((v = hdr_find(h, e, "transfer-encoding", &vl)) && vl == 7 &&
             !strncasecmp(v, "chunked", 7)) {
    static u8 *body;
    static size_t bcap;
    size_t bl = 0, at = hl;
    for (;;) {
      u8 *eol = memmem(p + at, n - at, "\r\n", 2);
      if (!eol) return 0;
      size_t k = strtoul((char *)p + at, NULL, 16);
      at = (size_t)(eol - p) + 2;
      if (n < at + k + 2) return 0;
      if (bl + k > bcap) body = xre(body, bcap = (bl + k) * 2);
      if (k) memcpy(body + bl, p + at, k);
      bl += k;
      at += k + 2;
      if (!k) break;
    }
    on_message(c, body, bl, now);
    hl = at;
  } else
    return err(c, "response without a length"), -1;
  v = hdr_find(h, e, "connection", &vl);
  if (v && vl == 5 && !strncasecmp(v, "close", 5))
    return err(c, "server closes a keep-alive connection"), -1;
  return c->st == S_DEAD ? -1 : (long)hl;
}
static void on_open(struct conn *c);
static long hand_parse(struct conn *c, u8 *p, size_t n) {
  u8 *he = memmem(p, n, "\r\n\r\n", 4);
  size_t vl;
  if (!he) return n > 16384 ? (err(c, "handshake too long"), -1) : 0;
  if (memcmp(p, "HTTP/1.1 101", 12)) return err(c, "handshake: %.80s", (char *)p), -1;
  const char *v = hdr_find((char *)p, (char *)he + 2, "sec-websocket-accept", &vl);
  if (!v || vl != 28 || memcmp(v, c->acc, 28)) return err(c, "wrong Sec-WebSocket-Accept"), -1;
  v = hdr_find((char *)p, (char *)he + 2, "sec-websocket-extensions", &vl);
  if (v) return err(c, "server chose an extension that was not offered"), -1;
  on_open(c);
  return (long)(he - p) + 4;
}
static void send_handshake(struct conn *c) {
  u8 k[16], dg[20];
  char key[32], cat[80], req[1024];
  u64 a = rnd(), b = rnd();
  memcpy(k, &a, 8);
  memcpy(k + 8, &b, 8);
  b64(k, 16, key);
  int n = snprintf(cat, sizeof cat, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  sha1((u8 *)cat, (size_t)n, dg);
  b64(dg, 20, c->acc);
  n = snprintf(req, sizeof req,
               "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s%s%s%s%s\r\n",
               o.path, o.host, o.port, key, o.proto ? "Sec-WebSocket-Protocol: " : "",
               o.proto ? o.proto : "", o.proto ? "\r\n" : "", o.hdr ? o.hdr : "",
               o.hdr ? "\r\n" : "");
  conn_send(c, (u8 *)req, (size_t)n);
}
static void on_readable(struct conn *c) {
  for (;;) {
    size_t have = c->pl;
    if (have + RBSZ / 2 > RBSZ) {
      err(c, "message over %d bytes", RBSZ / 2);
      conn_dead(c);
      return;
    }
    if (have) memcpy(rb, c->pb, have);
    ssize_t k = recv(c->fd, rb + have, RBSZ - have, 0);
    if (k < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      err(c, "recv: %s", strerror(errno));
      conn_dead(c);
      return;
    }
    if (k == 0) {
      err(c, "server closed the connection");
      conn_dead(c);
      return;
    }
    u64 now = now_ns();
    size_t n = have + (size_t)k, at = 0;
    while (at < n && c->st != S_DEAD) {
      long r;
      if (c->st == S_HAND)
        r = hand_parse(c, rb + at, n - at);
      else
        r = o.mode == M_HTTP ? http_parse(c, rb + at, n - at, now)
                             : ws_parse(c, rb + at, n - at, now);
      if (r < 0) {
        conn_dead(c);
        return;
      }
      if (!r) break;
      at += (size_t)r;
    }
    size_t left = n - at;
    if (left) {
      if (left > c->pc) c->pb = xre(c->pb, c->pc = (u32)left * 2);
      memmove(c->pb, rb + at, left);
    }
    c->pl = (u32)left;
    if ((size_t)k < RBSZ - have)
      return; /* the socket is drained (edge-triggered, next edge wakes) */
  }
}

/* ------------------------------------------------------------------ connecting */
static struct sockaddr_in dst;
static int src_base, connecting, next_conn, conn_target;
static void on_open(struct conn *c) {
  c->st = S_OPEN;
  open_count++;
  connecting--;
  last_progress = now_ns();
  if (lat2.n < 1u << 30) hadd(&lat2, last_progress - c->t0);
}
static void conn_start(struct conn *c) {
  struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.ptr = c};
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("socket: %s (raise ulimit -n?)", strerror(errno));
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (src_base >= 0) { /* spread over 127.0.0.2.. , 25000 connections each */
    struct sockaddr_in s = {.sin_family = AF_INET};
    s.sin_addr.s_addr = htonl(0x7F000002u + (u32)((src_base + c->idx) / 25000));
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&s, sizeof s)) die("bind: %s", strerror(errno));
  }
  c->t0 = now_ns();
  c->st = S_CONN;
  connecting++;
  if (connect(c->fd, (struct sockaddr *)&dst, sizeof dst) && errno != EINPROGRESS)
    die("connect to %s:%d: %s", o.host, o.port, strerror(errno));
  if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev)) die("epoll_ctl: %s", strerror(errno));
}
static u64
    poll_until; /* fixed rate: wake at this time (ns resolution) instead of after timeout_ms */
static void poll_once(int timeout_ms) {
  static struct epoll_event evs[1024];
  int n = -2;
  if (poll_until && !o.spin) {
    u64 t = now_ns(), d = poll_until > t ? poll_until - t : 0;
    struct timespec ts = {(time_t)(d / 1000000000ull), (long)(d % 1000000000ull)};
    n = epoll_pwait2(ep, evs, 1024, &ts, NULL);
    if (n < 0 && errno == ENOSYS) n = -2;
  }
  if (n == -2) n = epoll_wait(ep, evs, 1024, o.spin ? 0 : timeout_ms);
  if (n < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
  for (int i = 0; i < n; i++) {
    struct conn *c = evs[i].data.ptr;
    if (c->st == S_DEAD) continue;
    if (c->st == S_CONN && (evs[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
      int e = 0;
      socklen_t l = sizeof e;
      getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &l);
      if (e) {
        err(c, "connect: %s", strerror(e));
        connecting--;
        conn_dead(c);
        continue;
      }
      if (o.mode == M_HTTP)
        on_open(c);
      else
        c->st = S_HAND, send_handshake(c);
    }
    if (c->ol && (evs[i].events & EPOLLOUT)) conn_flush(c);
    if (c->st != S_DEAD && (evs[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
      int was = c->st;
      on_readable(c);
      if (c->st == S_DEAD && (was == S_HAND)) connecting--;
    }
    if (issuing && c->st == S_OPEN && c->rn < (u32)o.depth && o.rate <= 0 &&
        (o.mode == M_WS || o.mode == M_HTTP)) {
      u32 k = (u32)o.depth - c->rn;
      if (o.requests) {
        u64 cap = o.requests + o.warm_requests;
        u64 left = cap > total_issued ? cap - total_issued : 0;
        if (k > left) k = (u32)left;
      }
      issue(c, &T_req, k, now_ns(), 0);
    }
  }
}
static double connect_all(int n) {
  u64 t = now_ns();
  last_progress = t;
  conn_target = n;
  while (open_count < n) {
    while (connecting < o.conc && next_conn < n) {
      C[next_conn].idx = next_conn;
      conn_start(&C[next_conn++]);
    }
    poll_once(100);
    if (dead_count) die("a connection failed while connecting (%d open)", open_count);
    if (now_ns() - last_progress > (u64)(o.stall * 1e9))
      die("no progress while connecting (%d of %d open)", open_count, n);
  }
  return (double)(now_ns() - t) / 1e9;
}
static void stall_check(const char *what) {
  if (now_ns() - last_progress > (u64)(o.stall * 1e9)) {
    err(NULL, "stalled: %s (%llu outstanding)", what, (unsigned long long)inflight_total);
    last_progress = now_ns() + (u64)3600e9;
    issuing = false;
  }
}

/* ------------------------------------------------------------------ results */
static char jbuf[8192];
static size_t jn;
static void jadd(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void jadd(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(jbuf + jn, sizeof jbuf - jn, fmt, ap);
  va_end(ap);
  if (n > 0) jn += (size_t)n;
}
static void jhead(void) {
  jadd("{\"mode\":\"%s\",\"name\":\"%s\",\"conns\":%d,\"depth\":%d,\"payload\":%zu", o.mode_name,
       o.name, o.conns, o.depth, strlen(payload_text));
}
static int finish(bool ok) {
  jadd(",\"errors\":%llu,\"ok\":%s}", (unsigned long long)n_err, ok ? "true" : "false");
  if (!o.quiet)
    printf("  verified    %s (%llu errors)\n", ok ? "yes" : "NO", (unsigned long long)n_err);
  if (o.json) printf("%s\n", jbuf);
  fflush(stdout);
  return ok ? 0 : 1;
}
struct window {
  struct cpu a, b;
  u64 t0, t1, s0, s1;
};
static void win_open(struct window *w) {
  w->a = cpu_read();
  w->s0 = self_cpu_ns();
  w->t0 = now_ns();
}
static void win_close(struct window *w) {
  w->t1 = now_ns();
  w->s1 = self_cpu_ns();
  w->b = cpu_read();
}
static void win_report(struct window *w, u64 units, const char *unit) {
  double sec = (double)(w->t1 - w->t0) / 1e9;
  double cns = (double)(w->b.ns - w->a.ns);
  double tu = (double)(w->b.ut - w->a.ut), ts = (double)(w->b.st - w->a.st);
  double us = units ? cns / 1e3 / (double)units : 0, uf = tu + ts > 0 ? tu / (tu + ts) : 0;
  double gen = units ? (double)(w->s1 - w->s0) / 1e3 / (double)units : 0;
  double pct = cns / 1e7 / sec, gpct = (double)(w->s1 - w->s0) / 1e7 / sec;
  double wait = (double)(w->b.runwait - w->a.runwait) / 1e7 / sec;
  if (npids && units && cns <= 0)
    err(NULL, "the given pid used no CPU: is another server on this port?");
  if (!o.quiet) {
    if (npids)
      printf("  server CPU  %.3f us/%s (user %.2f + sys %.2f), %.1f%% of a core, %.1f%% waiting "
             "for CPU, %llu involuntary switches\n",
             us, unit, us * uf, us * (1 - uf), pct, wait,
             (unsigned long long)(w->b.nivcsw - w->a.nivcsw));
    printf("  generator   %.3f us/%s, %.1f%% of a core%s\n", gen, unit, gpct,
           gpct > 92 && !o.spin ? "  <-- SATURATED: throughput is the generator's, use CPU per unit"
                                : "");
  }
  if (npids)
    jadd(",\"cpu_us\":%.4f,\"cpu_user_us\":%.4f,\"cpu_sys_us\":%.4f,\"server_cpu_pct\":%.2f,"
         "\"server_wait_pct\":%.2f,"
         "\"server_nivcsw\":%llu,\"server_nvcsw\":%llu,\"server_age_s\":%.1f",
         us, us * uf, us * (1 - uf), pct, wait, (unsigned long long)(w->b.nivcsw - w->a.nivcsw),
         (unsigned long long)(w->b.nvcsw - w->a.nvcsw), server_age());
  jadd(",\"gen_cpu_us\":%.4f,\"gen_cpu_pct\":%.2f", gen, gpct);
}

/* ------------------------------------------------------------------ ws-rpc / http-rpc */
static int run_rpc(void) {
  struct window w;
  u64 base_ok, deadline, t, issued0 = 0;
  double tc = connect_all(o.conns);
  memset(&lat2, 0, sizeof lat2);
  issuing = true;
  last_progress = now_ns();
  u64 start = now_ns();
  if (o.rate <= 0) {
    for (int i = 0; i < nconn; i++) {
      u32 k = (u32)o.depth;
      u64 cap = o.requests + o.warm_requests;
      if (o.requests && total_issued + k > cap)
        k = (u32)(cap > total_issued ? cap - total_issued : 0);
      issue(&C[i], &T_req, k, now_ns(), 0);
    }
  }
  u64 warm_end = start + (u64)(o.warmup * 1e9);
  bool open = false;
  int rr = 0;
  deadline = 0;
  base_ok = 0;
  for (;;) {
    if (o.rate > 0 && issuing) { /* open loop at a fixed rate; latency counts from the due time */
      u64 nw = now_ns();
      u64 due = (u64)((double)(nw - start) / 1e9 * o.rate);
      while (issued0 < due) {
        int tries = 0;
        while (tries < nconn && (C[rr].st != S_OPEN || C[rr].rn >= (u32)o.depth))
          rr = (rr + 1) % nconn, tries++;
        if (tries == nconn) break;
        issue(&C[rr], &T_req, 1, start + (u64)((double)(issued0 + 1) * 1e9 / o.rate), 0);
        rr = (rr + 1) % nconn;
        issued0++;
      }
      poll_until = start + (u64)((double)(issued0 + 1) * 1e9 / o.rate);
      poll_once(1);
      poll_until = 0;
    } else
      poll_once(50);
    t = now_ns();
    if (!open &&
        (o.requests ? n_ok >= o.warm_requests && (o.warm_requests || t >= start) : t >= warm_end)) {
      open = true;
      base_ok = n_ok;
      in_window = true;
      win_open(&w);
      deadline = o.requests ? w.t0 + (u64)600e9 : w.t0 + (u64)(o.seconds * 1e9);
    }
    if (open && (t >= deadline || (o.requests && n_ok - base_ok >= o.requests) || dead_count))
      break;
    if (n_err > 100 || !issuing) break;
    stall_check("requests");
    if (!issuing) break;
    if (o.requests && total_issued == n_ok + n_err) break;
  }
  if (!open) win_open(&w), base_ok = n_ok;
  win_close(&w);
  u64 done = n_ok - base_ok;
  in_window = false;
  issuing = false;
  u64 drain = now_ns() + (u64)10e9;
  while (inflight_total && now_ns() < drain) poll_once(50);
  /* quiet moment: late duplicates would show up here */
  for (int i = 0; i < 5 && n_err == 0; i++) {
    bool sp = o.spin;
    o.spin = false;
    poll_once(10);
    o.spin = sp;
  }
  u64 lost = total_issued - n_ok - n_errresp;
  double sec = (double)(w.t1 - w.t0) / 1e9;
  bool ok = n_err == 0 && lost == 0 && done > 0;
  if (!o.quiet) {
    printf("%s%s%s  %s:%d%s  %d connections, depth %d, %zu-byte payload\n", o.mode_name,
           *o.name ? " " : "", o.name, o.host, o.port, o.path, o.conns, o.depth,
           strlen(payload_text));
    printf("  throughput  %.0f requests/s (%llu in %.2f s; connect %.3f s)\n", (double)done / sec,
           (unsigned long long)done, sec, tc);
    printf("  latency us  p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f\n", hq(&lat, .5),
           hq(&lat, .9), hq(&lat, .99), hq(&lat, .999), (double)lat.max / 1e3);
    if (lost) printf("  LOST        %llu requests were never answered\n", (unsigned long long)lost);
  }
  jhead();
  jadd(",\"seconds\":%.3f,\"requests\":%llu,\"rps\":%.1f,\"rate\":%.0f,\"p50_us\":%.2f,\"p90_us\":%"
       ".2f,\"p99_us\":%.2f,\"p999_us\":%.2f,"
       "\"max_us\":%.2f,\"lost\":%llu,\"spin\":%s",
       sec, (unsigned long long)done, (double)done / sec, o.rate, hq(&lat, .5), hq(&lat, .9),
       hq(&lat, .99), hq(&lat, .999), (double)lat.max / 1e3, (unsigned long long)lost,
       o.spin ? "true" : "false");
  win_report(&w, done, "request");
  return finish(ok && !n_err);
}

/* ------------------------------------------------------------------ fanout */
static int run_fanout(void) {
  struct window w;
  double tc = connect_all(o.conns + 1);
  struct conn *pub = &C[o.conns];
  u64 pubmax = (u64)o.depth;
  memset(&lat2, 0, sizeof lat2);
  nsub = (u64)o.conns;
  joined_phase = true;
  last_progress = now_ns();
  /* join in slices, so that a server's accept or read queue is not the subject here */
  for (int i = 0; i < o.conns;) {
    for (int k = 0; k < 64 && i < o.conns; k++, i++) issue(&C[i], &T_join, 1, now_ns(), 0);
    while (joined + n_errresp < (u64)i) {
      poll_once(50);
      if (n_err) die("join failed");
      if (now_ns() - last_progress > (u64)(o.stall * 1e9))
        die("no answer to join (%llu of %d)", (unsigned long long)joined, i);
    }
  }
  joined_phase = false;
  u64 start = now_ns(), warm_end = start + (u64)(o.warmup * 1e9), deadline = 0, t;
  bool open = false, stop = false;
  u64 limit = o.messages;
  last_progress = start;
  for (;;) {
    t = now_ns();
    if (!open &&
        (limit ? pub_done >= 2 || pub_done >= limit / 10 : t >= warm_end && pub_done > 0)) {
      open = true;
      /* the window opens and closes at a complete fan-out, so that deliveries and CPU match */
      while (pub_done < pub_next && !n_err && !dead_count &&
             now_ns() - last_progress < (u64)(o.stall * 1e9))
        poll_once(50);
      in_window = true;
      window_deliveries = window_msgs = 0;
      win_open(&w);
      deadline = limit ? w.t0 + (u64)600e9 : w.t0 + (u64)(o.seconds * 1e9);
      t = now_ns();
    }
    if (open && (t >= deadline || (limit && window_msgs + (pub_next - pub_done) >= limit)))
      stop = true;
    while (!stop && pub->st == S_OPEN && pub_next - pub_done < pubmax && pub->rn < pubmax) {
      u64 seq = pub_next++;
      t = now_ns();
      pub_t[seq % PRING] = t;
      pub_left[seq % PRING] = (u32)nsub + 1;
      issue(pub, &T_pub, 1, seq /* kept in the ring: see on_message */, seq);
    }
    if (stop && pub_done == pub_next) break;
    poll_once(50);
    if (n_err > 100 || dead_count) break;
    if (now_ns() - last_progress > (u64)(o.stall * 1e9)) {
      err(NULL, "stalled: %llu of %llu messages complete", (unsigned long long)pub_done,
          (unsigned long long)pub_next);
      break;
    }
  }
  if (!open) win_open(&w);
  win_close(&w);
  in_window = false;
  for (int i = 0; i < 5 && n_err == 0; i++) {
    bool sp = o.spin;
    o.spin = false;
    poll_once(10); /* late duplicates would show up here */
    o.spin = sp;
  }
  u64 missing = 0;
  for (int i = 0; i < o.conns; i++) missing += pub_next - C[i].seq;
  double sec = (double)(w.t1 - w.t0) / 1e9;
  bool ok = n_err == 0 && missing == 0 && window_msgs > 0;
  if (!o.quiet) {
    printf("fanout%s%s  %s:%d%s  %d subscribers, %d messages in flight, %zu-byte payload\n",
           *o.name ? " " : "", o.name, o.host, o.port, o.path, o.conns, o.depth,
           strlen(payload_text));
    printf("  deliveries  %.0f/s (%llu messages, %llu deliveries in %.2f s; connect %.3f s)\n",
           (double)window_deliveries / sec, (unsigned long long)window_msgs,
           (unsigned long long)window_deliveries, sec, tc);
    printf("  latency us  to a subscriber p50 %.1f  p99 %.1f  max %.1f;  to the last one p50 %.1f  "
           "p99 %.1f\n",
           hq(&lat, .5), hq(&lat, .99), (double)lat.max / 1e3, hq(&lat2, .5), hq(&lat2, .99));
    if (missing) printf("  MISSING     %llu deliveries\n", (unsigned long long)missing);
  }
  jhead();
  jadd(",\"seconds\":%.3f,\"messages\":%llu,\"deliveries\":%llu,\"dps\":%.1f,\"p50_us\":%.2f,\"p99_"
       "us\":%.2f,\"max_us\":%.2f,"
       "\"last_p50_us\":%.2f,\"last_p99_us\":%.2f,\"missing\":%llu,\"spin\":%s",
       sec, (unsigned long long)window_msgs, (unsigned long long)window_deliveries,
       (double)window_deliveries / sec, hq(&lat, .5), hq(&lat, .99), (double)lat.max / 1e3,
       hq(&lat2, .5), hq(&lat2, .99), (unsigned long long)missing, o.spin ? "true" : "false");
  win_report(&w, window_deliveries, "delivery");
  return finish(ok && !n_err);
}

/* ------------------------------------------------------------------ idle */
struct holder {
  pid_t pid;
  int to, from;
};
static void wr(int fd, const void *p, size_t n) {
  if (write(fd, p, n) != (ssize_t)n) die("pipe");
}
static void rd(int fd, void *p, size_t n) {
  u8 *q = p;
  while (n) {
    ssize_t k = read(fd, q, n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) die("a holder process ended early");
    q += k;
    n -= (size_t)k;
  }
}
/* services control traffic until the parent writes a command byte */
static char hold_wait(int fd) {
  for (;;) {
    char ch;
    ssize_t k = read(fd, &ch, 1);
    if (k == 1) return ch;
    if (k == 0) exit(0);
    poll_once(20);
    if (dead_count) return 'x';
  }
}
static void holder(int in, int out, int base, int n) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  fcntl(in, F_SETFL, O_NONBLOCK);
  src_base = src_base >= 0 ? base : -1;
  ep = epoll_create1(EPOLL_CLOEXEC);
  rng += (u64)base * 7919 + (u64)getpid();
  next_id = 1 + (u64)base;
  nconn = n;
  C = xalloc(sizeof *C * (size_t)n);
  for (int i = 0; i < n; i++) C[i].ring = xalloc(sizeof(struct slot)), C[i].fd = -1;
  o.depth = 1;
  double rep[4];
  rep[0] = connect_all(n);
  rep[1] = hq(&lat2, .5);
  rep[2] = hq(&lat2, .99);
  rep[3] = 0;
  wr(out, rep, sizeof rep);
  for (;;) {
    char ch = hold_wait(in);
    if (ch == 't') { /* one request on every connection: proves that each is alive */
      last_progress = now_ns();
      for (int i = 0; i < n;) {
        for (int k = 0; k < 64 && i < n; k++, i++) issue(&C[i], &T_req, 1, now_ns(), 0);
        while (n_ok + n_err < (u64)i && !dead_count) {
          poll_once(50);
          if (now_ns() - last_progress > (u64)(o.stall * 1e9)) break;
        }
      }
      rep[0] = (double)n_ok;
      rep[1] = (double)n_err;
      rep[2] = dead_count;
      wr(out, rep, sizeof rep);
    } else
      exit(ch == 'x');
  }
}
static int run_idle(void) {
  struct rlimit rl;
  getrlimit(RLIMIT_NOFILE, &rl);
  int per = (int)(rl.rlim_cur > 400 ? rl.rlim_cur - 200 : 200), np = (o.conns + per - 1) / per,
      base = 0;
  struct holder *H = xalloc(sizeof *H * (size_t)np);
  double rep[4], tmax = 0, p50 = 0, p99 = 0, alive = 0, herr = 0;
  struct window w;
  src_base = o.conns > 25000 ? 0 : -1;
  struct mem m0 = mem_read(), m1, m2;
  win_open(&w);
  for (int i = 0; i < np; i++) {
    int a[2], b[2], n = (o.conns - base) / (np - i);
    if (pipe2(a, O_CLOEXEC) || pipe2(b, O_CLOEXEC)) die("pipe");
    fflush(NULL);
    if (!(H[i].pid = fork())) {
      close(a[1]);
      close(b[0]);
      holder(a[0], b[1], base, n);
    }
    close(a[0]);
    close(b[1]);
    H[i].to = a[1];
    H[i].from = b[0];
    base += n;
  }
  for (int i = 0; i < np; i++) {
    rd(H[i].from, rep, sizeof rep);
    if (rep[0] > tmax) tmax = rep[0];
    p50 = rep[1];
    p99 = rep[2] > p99 ? rep[2] : p99;
  }
  win_close(&w);
  usleep((useconds_t)(o.settle * 1e6));
  m1 = mem_read();
  struct cpu ic0 = cpu_read();
  u64 it0 = now_ns();
  usleep(1000000);
  struct cpu ic1 = cpu_read();
  double idle_pct = (double)(ic1.ns - ic0.ns) / 1e7 / ((double)(now_ns() - it0) / 1e9);
  m2 = m1;
  if (!o.no_touch) {
    for (int i = 0; i < np; i++) wr(H[i].to, "t", 1);
    for (int i = 0; i < np; i++) {
      rd(H[i].from, rep, sizeof rep);
      alive += rep[0];
      herr += rep[1] + rep[2];
    }
    usleep((useconds_t)(o.settle * 1e6));
    m2 = mem_read();
  }
  for (int i = 0; i < np; i++) wr(H[i].to, "q", 1);
  for (int i = 0; i < np; i++) {
    int st;
    waitpid(H[i].pid, &st, 0);
  }
  n_err += (u64)herr;
  double N = o.conns, K = 1024;
  bool ok = !n_err && (o.no_touch || alive == N);
  double cpu_us = (double)(w.b.ns - w.a.ns) / 1e3 / N;
  if (!o.quiet) {
    printf("idle%s%s  %s:%d%s  %d connections from %d process(es)\n", *o.name ? " " : "", o.name,
           o.host, o.port, o.path, o.conns, np);
    printf("  handshakes  %.0f/s (%.3f s, %d at a time; p50 %.0f us p99 %.0f us)", N / tmax, tmax,
           o.conc, p50, p99);
    if (npids) printf(", server CPU %.1f us/handshake", cpu_us);
    printf("\n");
    if (npids) {
      printf("  memory      before %ld KiB RSS (%ld KiB private); idle +%.0f bytes/connection RSS "
             "(%.0f private)\n",
             m0.rss, m0.uss, (double)(m1.rss - m0.rss) * K / N, (double)(m1.uss - m0.uss) * K / N);
      if (!o.no_touch)
        printf(
            "              after one request on each: +%.0f bytes/connection RSS (%.0f private)\n",
            (double)(m2.rss - m0.rss) * K / N, (double)(m2.uss - m0.uss) * K / N);
      printf("  idle CPU    %.2f%% of a core\n", idle_pct);
    }
    printf(
        "  kernel      %.0f bytes/connection slab, %.0f TCP buffers (both ends, whole machine)\n",
        (double)(m1.k_slab - m0.k_slab) * K / N, (double)(m1.k_tcp - m0.k_tcp) * K / N);
    if (!o.no_touch) printf("  alive       %.0f of %d answered afterwards\n", alive, o.conns);
  }
  jhead();
  jadd(",\"procs\":%d,\"connect_s\":%.3f,\"handshakes_s\":%.1f,\"handshake_p50_us\":%.1f,"
       "\"handshake_p99_us\":%.1f,\"handshake_cpu_us\":%.2f,"
       "\"rss0_kib\":%ld,\"uss0_kib\":%ld,\"rss_bytes_per_conn\":%.1f,\"uss_bytes_per_conn\":%.1f,"
       "\"pss_bytes_per_conn\":%.1f,"
       "\"rss_touched_bytes_per_conn\":%.1f,\"uss_touched_bytes_per_conn\":%.1f,\"kernel_slab_"
       "bytes_per_conn\":%.1f,\"idle_cpu_pct\":%.2f,"
       "\"alive\":%.0f",
       np, tmax, N / tmax, p50, p99, cpu_us, m0.rss, m0.uss, (double)(m1.rss - m0.rss) * K / N,
       (double)(m1.uss - m0.uss) * K / N, (double)(m1.pss - m0.pss) * K / N,
       (double)(m2.rss - m0.rss) * K / N, (double)(m2.uss - m0.uss) * K / N,
       (double)(m1.k_slab - m0.k_slab) * K / N, idle_pct, alive);
  return finish(ok);
}

/* ------------------------------------------------------------------ self test of the checkers */
static int selftest(void) {
  static const struct {
    const char *s;
    bool good;
  } T[] = {
      {"{}", true},
      {"{\"a\":1}", true},
      {"{\"a\":[1,2,{\"b\":null}],\"c\":\"\\u00e9\\n\"}", true},
      {"{\"a\":1e5,\"b\":-0.5}", true},
      {"{\"a\":\"\xc3\xa9\"}", true},
      {"{\"a\":\"\xc3\"}", false},
      {"{\"a\":\"\xed\xa0\x80\"}", false},
      {"{\"a\":01}", false},
      {"{\"a\":1,}", false},
      {"{\"a\":\"x\ty\"}", false},
      {"{\"a\":\"\\x\"}", false},
      {"{\"a\":1}x", false},
      {"{\"a\"}", false},
      {"[1]", false},
      {"{\"id\":1,\"id\":2}", false},
      {"{\"a\":\"0123456789abcdef\\\"0123456789abcdef\"}", true},
      {"{\"a\":\"0123456789abcdef", false},
      {"{\"a\":tru}", false},
      {" {\"a\" : true } ", true},
  };
  struct jinfo ji;
  int bad = 0;
  for (size_t i = 0; i < sizeof T / sizeof *T; i++)
    if (js_doc((const u8 *)T[i].s, strlen(T[i].s), &ji) != T[i].good)
      printf("FAIL json %s\n", T[i].s), bad++;
  const char *r = "{\"jsonrpc\":\"2.0\",\"result\":{\"id\":9,\"seq\":4},\"id\":77}";
  if (!js_doc((const u8 *)r, strlen(r), &ji) || !ji.id_int || ji.idv != 77 || !ji.result ||
      ji.error || !ji.jsonrpc || ji.seqv != 4)
    puts("FAIL fields"), bad++;
  r = "{\"jsonrpc\":\"2.0\",\"result\":1,\"id\":1.0}";
  if (!js_doc((const u8 *)r, strlen(r), &ji) || ji.id_int) puts("FAIL float id"), bad++;
  u8 dg[20];
  char out[40];
  sha1((const u8 *)"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 60, dg);
  b64(dg, 20, out);
  if (strcmp(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) puts("FAIL accept key"), bad++;
  struct hist *h = xalloc(sizeof *h);
  for (u64 i = 1; i <= 100000; i++) hadd(h, i * 1000);
  double q = hq(h, .5), q9 = hq(h, .99);
  if (q < 49500 || q > 50500 || q9 < 98000 || q9 > 100000)
    printf("FAIL histogram %f %f\n", q, q9), bad++;
  printf("%d passed, %d failed\n", (int)(sizeof T / sizeof *T) + 4 - bad, bad);
  return bad != 0;
}

static void __attribute__((noreturn)) usage(void) {
  puts("rpcload MODE [options]      MODE: ws-rpc | http-rpc | fanout | idle | selftest\n"
       "target      --host 127.x.y.z (127.0.0.1)  --port N (9000)  --path /rpc  --proto "
       "SUBPROTOCOL  --header 'K: V'\n"
       "load        -c N connections (64)   -d N in flight per connection (1; fanout: messages in "
       "flight)\n"
       "            -t SEC measured (5)  -w SEC warm-up (1)  -n N requests instead of seconds "
       "(warm-up N/10)\n"
       "            --rate R  requests/s in all, open loop, latency from the due time (needs -d "
       "over 1)\n"
       "            --payload BYTES (text 'hello' without it)  --template JSON with $ID $PAYLOAD "
       "$CONN  --expect JSON (result text)\n"
       "            --raw  the server only echoes: check form, id and exactly-once, not "
       "result/jsonrpc\n"
       "            --nobatch one send per request   --spin busy-poll   --concurrency N connects "
       "at a time (32)\n"
       "fanout      --group NAME  --join JSON  --publish JSON with $GROUP $SEQ $PAYLOAD $ID  -n N "
       "messages\n"
       "idle        --settle SEC (3)  --no-touch\n"
       "server      --pid P[,P..] (repeatable): its CPU and memory  --children: and its "
       "descendants\n"
       "self        --cpu K pin to CPU K   --name LABEL   --json  one JSON line at the end   "
       "--quiet   --stall SEC (15)\n"
       "Exit status: 0 only if every response was verified.");
  exit(0);
}
int main(int argc, char **argv) {
  enum {
    HOST = 256,
    PORT,
    PATH,
    PROTO,
    HDR,
    RATE,
    PAYLOAD,
    TPL,
    EXPECT,
    RAW,
    NOBATCH,
    SPIN,
    CONC,
    GROUP,
    JOIN,
    PUB,
    SETTLE,
    NOTOUCH,
    PID,
    CHILD,
    CPU,
    NAME,
    JSON,
    QUIET,
    STALL
  };
  static const struct option L[] = {{"host", 1, 0, HOST},        {"port", 1, 0, PORT},
                                    {"path", 1, 0, PATH},        {"proto", 1, 0, PROTO},
                                    {"header", 1, 0, HDR},       {"conns", 1, 0, 'c'},
                                    {"depth", 1, 0, 'd'},        {"seconds", 1, 0, 't'},
                                    {"warmup", 1, 0, 'w'},       {"requests", 1, 0, 'n'},
                                    {"rate", 1, 0, RATE},        {"payload", 1, 0, PAYLOAD},
                                    {"template", 1, 0, TPL},     {"expect", 1, 0, EXPECT},
                                    {"raw", 0, 0, RAW},          {"nobatch", 0, 0, NOBATCH},
                                    {"spin", 0, 0, SPIN},        {"concurrency", 1, 0, CONC},
                                    {"group", 1, 0, GROUP},      {"join", 1, 0, JOIN},
                                    {"publish", 1, 0, PUB},      {"settle", 1, 0, SETTLE},
                                    {"no-touch", 0, 0, NOTOUCH}, {"pid", 1, 0, PID},
                                    {"children", 0, 0, CHILD},   {"cpu", 1, 0, CPU},
                                    {"name", 1, 0, NAME},        {"json", 0, 0, JSON},
                                    {"quiet", 0, 0, QUIET},      {"stall", 1, 0, STALL},
                                    {"help", 0, 0, 'h'},         {0}};
  if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) usage();
  o.mode_name = argv[1];
  if (!strcmp(argv[1], "ws-rpc"))
    o.mode = M_WS;
  else if (!strcmp(argv[1], "http-rpc"))
    o.mode = M_HTTP;
  else if (!strcmp(argv[1], "fanout"))
    o.mode = M_FANOUT;
  else if (!strcmp(argv[1], "idle"))
    o.mode = M_IDLE;
  else if (!strcmp(argv[1], "selftest"))
    return selftest();
  else
    die("no mode '%s'; --help tells", argv[1]);
  int ch;
  optind = 2;
  while ((ch = getopt_long(argc, argv, "c:d:t:w:n:h", L, NULL)) != -1) switch (ch) {
    case HOST: o.host = optarg; break;
    case PORT: o.port = atoi(optarg); break;
    case PATH: o.path = optarg; break;
    case PROTO: o.proto = optarg; break;
    case HDR: o.hdr = optarg; break;
    case 'c': o.conns = atoi(optarg); break;
    case 'd': o.depth = atoi(optarg); break;
    case 't': o.seconds = atof(optarg); break;
    case 'w': o.warmup = atof(optarg); break;
    case 'n': o.requests = strtoull(optarg, NULL, 10); break;
    case RATE: o.rate = atof(optarg); break;
    case PAYLOAD: o.payload = atol(optarg); break;
    case TPL: o.tpl = optarg; break;
    case EXPECT: o.expect = optarg; break;
    case RAW: o.raw = true; break;
    case NOBATCH: o.nobatch = true; break;
    case SPIN: o.spin = true; break;
    case CONC: o.conc = atoi(optarg); break;
    case GROUP: o.group = optarg; break;
    case JOIN: o.join = optarg; break;
    case PUB: o.publish = optarg; break;
    case SETTLE: o.settle = atof(optarg); break;
    case NOTOUCH: o.no_touch = true; break;
    case PID:
      for (char *s = strtok(optarg, ","); s; s = strtok(NULL, ",")) add_pid(atoi(s));
      break;
    case CHILD: o.children = true; break;
    case CPU: o.cpu = atoi(optarg); break;
    case NAME: o.name = optarg; break;
    case JSON: o.json = true; break;
    case QUIET: o.quiet = true; break;
    case STALL: o.stall = atof(optarg); break;
    case 'h': usage();
    default: exit(2);
    }
  if (optind < argc) die("unknown argument '%s'", argv[optind]);
  if (o.conns < 1 || o.conns > 1000000 || o.depth < 1 || o.depth > 4096 || o.conc < 1)
    die("connections, depth or concurrency out of range");
  if (o.seconds <= 0 || o.seconds > 3600 || o.warmup < 0 || o.payload > 256 << 10)
    die("times or payload out of range");
  if (o.children) add_children();
  memset(&dst, 0, sizeof dst);
  dst.sin_family = AF_INET;
  dst.sin_port = htons((uint16_t)o.port);
  if (inet_pton(AF_INET, o.host, &dst.sin_addr) != 1 || (ntohl(dst.sin_addr.s_addr) >> 24) != 127)
    die("only addresses of this machine (127.0.0.0/8) are allowed, not %s", o.host);
  struct rlimit rl;
  getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  setrlimit(RLIMIT_NOFILE, &rl);
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_TIMERSLACK, 1);
  if (o.cpu >= 0) {
    cpu_set_t s;
    CPU_ZERO(&s);
    CPU_SET(o.cpu, &s);
    if (sched_setaffinity(0, sizeof s, &s)) die("cannot pin to CPU %d", o.cpu);
  }
  if (o.payload < 0)
    payload_text = strdup("hello");
  else {
    payload_text = xalloc((size_t)o.payload + 1);
    for (long i = 0; i < o.payload; i++)
      payload_text[i] = "abcdefghijklmnopqrstuvwxyz0123456789 "[i % 37];
  }
  if (!o.tpl) {
    o.tpl = "{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[\"$PAYLOAD\"],\"id\":$ID}";
    if (!o.expect) o.expect = "\"$PAYLOAD\"";
  }
  tpl_make(&T_req, o.tpl);
  tpl_make(&T_join, o.join ? o.join
                           : "{\"jsonrpc\":\"2.0\",\"method\":\"join\",\"params\":{\"group\":\"$"
                             "GROUP\"},\"id\":$ID}");
  tpl_make(&T_pub, o.publish ? o.publish
                             : "{\"jsonrpc\":\"2.0\",\"method\":\"publish\",\"params\":{\"group\":"
                               "\"$GROUP\",\"seq\":$SEQ,\"payload\":\"$PAYLOAD\"},\"id\":$ID}");
  if (o.expect) {
    tpl_make(&T_exp, o.expect);
    exp_fixed = xalloc(T_exp.max + 64);
    exp_fixed_n = tpl_put(&T_exp, exp_fixed, 0, 0, 0);
  }
  if (o.mode == M_HTTP)
    http_head_n = (size_t)snprintf(
        http_head, sizeof http_head,
        "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n%s%sContent-Length: ",
        o.path, o.host, o.port, o.hdr ? o.hdr : "", o.hdr ? "\r\n" : "");
  if (o.mode == M_FANOUT) o.messages = o.requests, o.requests = 0;
  if (o.requests) o.warm_requests = o.requests / 10;
  rb = xalloc(RBSZ);
  sb = xalloc(sbcap = 1 << 16);
  rng ^= now_ns() * 0x2545F4914F6CDD1Dull;
  ep = epoll_create1(EPOLL_CLOEXEC);
  src_base = -1;
  if (o.mode == M_IDLE) return run_idle();
  nconn = o.conns + (o.mode == M_FANOUT);
  if ((u64)nconn + 20 > rl.rlim_cur)
    die("%d connections do not fit under the open-file limit %llu", nconn,
        (unsigned long long)rl.rlim_cur);
  C = xalloc(sizeof *C * (size_t)nconn);
  for (int i = 0; i < nconn; i++)
    C[i].ring = xalloc(sizeof(struct slot) * (size_t)o.depth), C[i].fd = -1;
  return o.mode == M_FANOUT ? run_fanout() : run_rpc();
}

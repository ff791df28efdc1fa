/* SPDX-License-Identifier: MIT */
/* deflate.c -- permessage-deflate: the offer, and messages in and out of it. */
#include "wire/deflate.h"

#include "base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum {
#ifdef PERIGEE_TINY
  FIRST = 16, /* bytes of output to begin with */
#else
  FIRST = 4096,
#endif
  KEEP = 64 * 1024, /* output up to this size stays for the next message */
  WINDOW = 15,      /* bits: 32 KiB, deflate's largest and the default of both sides */
  MEMORY = 8,       /* zlib's default */
};

/* ---- the offer ------------------------------------------------------------------------------- */

struct text {
  const char *at;
  size_t len;
};

static bool is(struct text t, const char *s) {
  return t.len == strlen(s) && strncasecmp(t.at, s, t.len) == 0;
}

static struct text trim(const char *s, const char *end) {
  while (s < end && (*s == ' ' || *s == '\t')) s++;
  while (end > s && (end[-1] == ' ' || end[-1] == '\t')) end--;
  return (struct text){s, (size_t)(end - s)};
}

/* "10" or "\"10\"" -> 10; 0 for what is no number of window bits (RFC 7692 section 7.1.2). */
static int window_bits(struct text t) {
  if (t.len >= 2 && t.at[0] == '"' && t.at[t.len - 1] == '"')
    t = (struct text){t.at + 1, t.len - 2};
  if (t.len == 1 && (t.at[0] == '8' || t.at[0] == '9')) return t.at[0] - '0';
  if (t.len == 2 && t.at[0] == '1' && t.at[1] >= '0' && t.at[1] <= '5') return 10 + t.at[1] - '0';
  return 0;
}

/* Can this offer be agreed to? *names_window: it names our window, so the answer has to. */
static bool judge_offer(struct text offer, bool *names_window) {
  const char *s = offer.at, *end = s + offer.len;
  unsigned seen = 0;
  *names_window = false;
  for (bool is_name = true; s <= end; is_name = false) {
    const char *stop = s;
    while (stop < end && *stop != ';') stop++;
    struct text pair = trim(s, stop);
    s = stop + 1;
    if (is_name) {
      if (!is(pair, "permessage-deflate")) return false;
      continue;
    }
    const char *sign = pair.len ? memchr(pair.at, '=', pair.len) : NULL;
    struct text name = trim(pair.at, sign ? sign : pair.at + pair.len);
    int bits = sign ? window_bits(trim(sign + 1, pair.at + pair.len)) : 0;
    unsigned bit;
    if (is(name, "server_no_context_takeover") && !sign) {
      bit = 1;
    } else if (is(name, "client_no_context_takeover") && !sign) {
      bit = 2;
    } else if (is(name, "server_max_window_bits") && bits == WINDOW) {
      bit = 4; /* a smaller one would need a compressor of its own */
      *names_window = true;
    } else if (is(name, "client_max_window_bits") && (bits || !sign)) {
      bit = 8; /* any is fine */
    } else {
      return false;
    }
    if (seen & bit) return false;
    seen |= bit;
  }
  return true;
}

size_t pmd_negotiate(const struct http_request *r, char out[static PMD_LINE_MAX]) {
  for (uint32_t i = 0; i < r->n_fields; i++) {
    if (!http_span_is(r, r->fields[i].name, "sec-websocket-extensions")) continue;
    const char *s = http_text(r, r->fields[i].value), *end = s + r->fields[i].value.len;
    while (s < end) {
      const char *stop = memchr(s, ',', (size_t)(end - s));
      bool names_window;
      if (!stop) stop = end;
      if (judge_offer(trim(s, stop), &names_window))
        return (size_t)snprintf(out, PMD_LINE_MAX,
                                "Sec-WebSocket-Extensions: permessage-deflate; "
                                "server_no_context_takeover; client_no_context_takeover%s\r\n",
                                names_window ? "; server_max_window_bits=15" : "");
      s = stop < end ? stop + 1 : end;
    }
  }
  return 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

struct pmd {
  z_stream in, out;
  bool has_in, has_out; /* they are opened */
  uint8_t *data;        /* owned: what was inflated last */
  size_t cap;
};

struct pmd *pmd_new(void) {
  return mem_zalloc(sizeof(struct pmd));
}

void pmd_free(struct pmd *pmd) {
  if (!pmd) return;
  if (pmd->has_in) inflateEnd(&pmd->in);
  if (pmd->has_out) deflateEnd(&pmd->out);
  free(pmd->data);
  free(pmd);
}

void pmd_release(struct pmd *pmd) {
  if (pmd->cap <= KEEP) return;
  free(pmd->data);
  pmd->data = NULL;
  pmd->cap = 0;
}

/* Inflates what z->next_in has, behind the *len bytes that are there. */
static enum pmd_result inflate_some(struct pmd *pmd, uint64_t limit, size_t *len) {
  z_stream *z = &pmd->in;
  for (;;) {
    uint8_t beyond;
    bool is_full = *len == limit;
    if (*len == pmd->cap && !is_full) {
      size_t cap = pmd->cap ? pmd->cap * 2 : FIRST;
      pmd->cap = cap < limit ? cap : (size_t)limit;
      pmd->data = mem_realloc(pmd->data, pmd->cap);
    }
    size_t most = pmd->cap < limit ? pmd->cap : (size_t)limit; /* it may be another's, and larger */
    z->next_out = is_full ? &beyond : pmd->data + *len;
    z->avail_out = is_full ? 1 : (uInt)(most - *len);
    uInt room = z->avail_out;
    int result = inflate(z, Z_SYNC_FLUSH);
    size_t made = room - z->avail_out;
    if (is_full && made) return PMD_TOO_BIG;
    *len += made;
    switch (result) {
    case Z_STREAM_END: /* a final block; others may follow (RFC 7692 section 7.2.3.5) */
      inflateReset(z);
      if (z->avail_in == 0) return PMD_DONE;
      break;
    case Z_OK:
      if (z->avail_in == 0 && z->avail_out) return PMD_DONE;
      break;
    case Z_BUF_ERROR: /* nothing more comes of this input */
      if (z->avail_in == 0 && z->avail_out) return PMD_DONE;
      if (made == 0 && z->avail_out) return PMD_BAD;
      break;
    default: return PMD_BAD;
    }
  }
}

enum pmd_result pmd_inflate(struct pmd *pmd, const uint8_t *data, size_t n, uint64_t limit,
                            uint8_t **out, size_t *out_len) {
  static const uint8_t tail[] = {0, 0, 0xff, 0xff}; /* what the sender left out */
  z_stream *z = &pmd->in;
  size_t len = 0;
  if (!pmd->has_in) check(inflateInit2(z, -WINDOW) == Z_OK);
  pmd->has_in = true;
  inflateReset(z);
  enum pmd_result result = PMD_DONE;
  for (int i = 0; i < 2 && result == PMD_DONE; i++) {
    z->next_in = i ? (uint8_t *)tail : (uint8_t *)data;
    z->avail_in = i ? sizeof tail : (uInt)n;
    result = inflate_some(pmd, limit, &len);
  }
  /* zlib tells between which two things it stands: 128 is between blocks */
  if (result == PMD_DONE && !(z->data_type & 128)) result = PMD_BAD;
  *out = pmd->data;
  *out_len = len;
  return result;
}

size_t pmd_deflate(struct pmd *pmd, const uint8_t *data, size_t n, uint8_t *out, size_t room) {
  z_stream *z = &pmd->out;
  if (!pmd->has_out)
    check(deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW, MEMORY, Z_DEFAULT_STRATEGY) ==
          Z_OK);
  pmd->has_out = true;
  deflateReset(z);
  z->next_in = (uint8_t *)data;
  z->avail_in = (uInt)n;
  z->next_out = out;
  z->avail_out = (uInt)room;
  if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_in || z->avail_out == 0) return 0;
  return room - z->avail_out - 4; /* without the empty block that a flush ends with */
}

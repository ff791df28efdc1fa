/* SPDX-License-Identifier: MIT */
/* parcel.c -- what workers, and the broker, send each other. */
#include "hub/parcel.h"

#include "hub/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct parcel *parcel_new(enum parcel_kind kind, struct slice body, const struct group_name *names,
                          size_t n_names, const struct address *except, size_t n_except) {
  size_t text = 0;
  for (size_t i = 0; i < n_names; i++) text += names[i].len;
  size_t size = sizeof(struct parcel) + n_except * sizeof *except + n_names * sizeof *names + text;
  struct parcel *p = mem_alloc(size);
  *p = (struct parcel){.mail = {.kind = kind, .weight = (uint32_t)(size + body.len)},
                       .body = body,
                       .n_names = (uint16_t)n_names,
                       .n_except = (uint16_t)n_except};
  check(n_names <= UINT16_MAX && n_except <= UINT16_MAX);
  if (body.len) buf_ref(body.buf);
  uint8_t *at = (uint8_t *)(p + 1);
  p->except = (struct address *)at;
  if (n_except) memcpy(at, except, n_except * sizeof *except);
  at += n_except * sizeof *except;
  p->names = (struct group_name *)at;
  at += n_names * sizeof *names;
  for (size_t i = 0; i < n_names; i++) {
    p->names[i] = (struct group_name){(char *)at, names[i].len};
    memcpy(at, names[i].text, names[i].len);
    at += names[i].len;
  }
  return p;
}

void parcel_free(struct parcel *p) {
  check(p->topic == NULL);
  if (p->body.len) buf_unref(p->body.buf);
  if (p->reply) reply_free(p->reply);
  free(p);
}

/* Reads hexadecimal digits, lower case: `width` of them, or (0) any number without leading zeros.
 */
static const char *read_hex(const char *s, const char *end, int width, uint64_t *out) {
  const char *start = s;
  *out = 0;
  for (; s < end && s - start < 16; s++) {
    int digit = *s >= '0' && *s <= '9' ? *s - '0' : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10 : -1;
    if (digit < 0) break;
    *out = *out << 4 | (unsigned)digit;
  }
  if (s == start || (width ? s - start != width : *start == '0' && s - start > 1)) return NULL;
  return s;
}

bool address_parse(const char *s, size_t n, struct address *out) {
  const char *end = s + n;
  uint64_t worker = 0;
  s = read_hex(s, end, 16, &out->node);
  if (!s || s == end || *s++ != '.') return false;
  const char *digits = s;
  while (s < end && *s >= '0' && *s <= '9' && s - digits < 3)
    worker = worker * 10 + (uint64_t)(*s++ - '0');
  if (s == digits || (*digits == '0' && s - digits > 1) || worker >= TOPIC_WORKERS_MAX)
    return false;
  if (s == end || *s++ != '.') return false;
  out->worker = (uint32_t)worker;
  s = read_hex(s, end, 0, &out->conn);
  return s == end;
}

int address_write(const struct address *a, char out[static ADDRESS_TEXT]) {
  return snprintf(out, ADDRESS_TEXT, "%016" PRIx64 ".%u.%" PRIx64, a->node, a->worker, a->conn);
}

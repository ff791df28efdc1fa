/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_PAYLOAD_H
#define PERIGEE_PAYLOAD_H

#include "hub/parcel.h"

/* payload.c -- what processes say to each other through Redis, as bytes. Numbers are little-endian:
 *
 *   "PG" version kind | node u64 | seq u64 | u16 names, each u8 length + bytes
 *   | u16 excepts, each node u64 + worker u16 + conn u64 | task u64, wait u32, worker u16
 *   | to: worker u16 + conn u64 | length u32 + body
 *
 * Version 1. What another version sends is not read: while a cluster is upgraded, old and new
 * processes do not hear each other, and nothing is misread. */

enum payload_kind {
  PAYLOAD_FRAME = 'F',  /* body: what a text frame carries */
  PAYLOAD_BINARY = 'B', /* body: what a binary frame carries */
  PAYLOAD_TEXT = 'T',   /* body: a text for Lua */
  PAYLOAD_ACK = 'A',    /* an answer: to.conn says whether the connection is there */
};

enum { PAYLOAD_NAMES = 1024, PAYLOAD_EXCEPT = 1024, PAYLOAD_BODY = 16 * 1024 * 1024 };

/* Large: keep one, not on the stack. */
struct payload {
  enum payload_kind kind;
  uint64_t node; /* who sent it */
  uint64_t seq;  /* the same in all copies of a message to several groups; 0: there is one */
  struct group_name names[PAYLOAD_NAMES]; /* in the bytes that were read */
  struct address except[PAYLOAD_EXCEPT];
  size_t n_names, n_except;
  struct waiter waiter; /* at the sender */
  struct address to;    /* node 0: whoever reads it */
  const uint8_t *body;  /* in the bytes that were read */
  size_t n;
};

/* Writes a parcel (PARCEL_PUBLISH, PARCEL_SEND or PARCEL_TEXT) of process `node` as one message of
 * the builder. False when it is longer than PAYLOAD_BODY. */
bool payload_write(struct builder *b, const struct parcel *p, uint64_t node, uint64_t seq,
                   struct slice *out);

/* Writes the answer to a message that came with a waiter. */
bool payload_write_ack(struct builder *b, const struct payload *to, bool is_there, uint64_t node,
                       struct slice *out);

/* Reads a payload. False when it is none, of another version, cut, or holds text that is not UTF-8,
 * for which clients would end their connections. */
bool payload_read(struct payload *out, const void *bytes, size_t n);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_DEFLATE_H
#define PERIGEE_DEFLATE_H

#include "wire/http.h"

/* deflate.c -- permessage-deflate (RFC 7692): the offer, and messages in and out of it.
 *
 * Both sides are told to forget each message (no context takeover): so one pair of compressors
 * serves all connections of a worker, an idle connection has none, and one compressed form of a
 * message serves all its readers. Pure. One thread at a time. */

struct pmd;

enum { PMD_LINE_MAX = 160 };
/* Answers the extensions that a handshake offers: writes a whole header line, and returns its
 * length; 0 when nothing is offered that can be agreed to. */
size_t pmd_negotiate(const struct http_request *r, char out[static PMD_LINE_MAX]);

struct pmd *pmd_new(void);
void pmd_free(struct pmd *pmd);

enum pmd_result {
  PMD_DONE,
  PMD_BAD,     /* not what deflate makes, or not to its end */
  PMD_TOO_BIG, /* more than `limit` bytes come out */
};
/* Inflates a message. *out is valid, and the caller's to change, until pmd_release. No more memory
 * is taken than what comes out, and the limit bounds that. */
enum pmd_result pmd_inflate(struct pmd *pmd, const uint8_t *data, size_t n, uint64_t limit,
                            uint8_t **out, size_t *out_len);
/* Lets go of what pmd_inflate has made, if it is large. */
void pmd_release(struct pmd *pmd);

/* Deflates a message of at least one byte into out. Returns the length, 0 when room is too small.
 */
size_t pmd_deflate(struct pmd *pmd, const uint8_t *data, size_t n, uint8_t *out, size_t room);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_NETWORK_H
#define PERIGEE_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* network.c -- IP addresses and networks of them, as text and as bits. Pure; any thread. */

/* IPv6; an IPv4 address lies in ::ffff:0:0/96, so that both spellings of one compare equal. */
struct ip {
  uint8_t bytes[16];
};

/* The addresses whose first `bits` bits are those of `first`. */
struct network {
  struct ip first;
  uint8_t bits; /* 0 to 128 */
};

enum { IP_TEXT = 46 };

/* "192.0.2.1" or "2001:db8::1"; nothing around it, no zone. */
bool ip_parse(const char *s, size_t n, struct ip *out);
/* Writes IPv4 as IPv4. */
void ip_format(const struct ip *ip, char out[static IP_TEXT]);

/* An address, or "10.0.0.0/8". False for anything else, and for bits set behind the prefix: they
 * are a slip of whoever wrote it. */
bool network_parse(const char *s, size_t n, struct network *out);
bool network_has(const struct network *network, const struct ip *ip);

#endif

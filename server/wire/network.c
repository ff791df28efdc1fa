/* SPDX-License-Identifier: MIT */
/* network.c -- IP addresses and networks of them, as text and as bits. */
#include "wire/network.h"

#include <arpa/inet.h>
#include <string.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* *is_v4: it was written as IPv4. */
static bool parse(const char *s, size_t n, struct ip *out, bool *is_v4) {
  char text[IP_TEXT];
  if (n == 0 || n >= sizeof text || memchr(s, '\0', n)) return false;
  memcpy(text, s, n);
  text[n] = '\0';
  *is_v4 = !strchr(text, ':');
  if (!*is_v4) return inet_pton(AF_INET6, text, out->bytes) == 1;
  memcpy(out->bytes, mapped, sizeof mapped);
  return inet_pton(AF_INET, text, out->bytes + sizeof mapped) == 1;
}

bool ip_parse(const char *s, size_t n, struct ip *out) {
  bool is_v4;
  return parse(s, n, out, &is_v4);
}

void ip_format(const struct ip *ip, char out[static IP_TEXT]) {
  if (memcmp(ip->bytes, mapped, sizeof mapped) == 0)
    inet_ntop(AF_INET, ip->bytes + sizeof mapped, out, IP_TEXT);
  else
    inet_ntop(AF_INET6, ip->bytes, out, IP_TEXT);
}

/* Digits of a number up to 128, without a leading zero; -1 for anything else. */
static int parse_bits(const char *s, size_t n) {
  int v = 0;
  if (n == 0 || n > 3 || (n > 1 && s[0] == '0')) return -1;
  for (size_t i = 0; i < n; i++) {
    if (s[i] < '0' || s[i] > '9') return -1;
    v = v * 10 + (s[i] - '0');
  }
  return v <= 128 ? v : -1;
}

bool network_parse(const char *s, size_t n, struct network *out) {
  const char *slash = n ? memchr(s, '/', n) : NULL;
  size_t address = slash ? (size_t)(slash - s) : n;
  bool is_v4;
  if (!parse(s, address, &out->first, &is_v4)) return false;
  int bits = slash ? parse_bits(slash + 1, n - address - 1) : is_v4 ? 32 : 128;
  if (bits < 0 || (is_v4 && bits > 32)) return false;
  out->bits = (uint8_t)(is_v4 ? bits + 96 : bits);
  for (unsigned i = out->bits; i < 128; i++)
    if (out->first.bytes[i / 8] & 0x80 >> i % 8) return false;
  return true;
}

bool network_has(const struct network *network, const struct ip *ip) {
  unsigned whole = network->bits / 8, rest = network->bits % 8;
  if (memcmp(network->first.bytes, ip->bytes, whole) != 0) return false;
  return rest == 0 || (network->first.bytes[whole] ^ ip->bytes[whole]) >> (8 - rest) == 0;
}

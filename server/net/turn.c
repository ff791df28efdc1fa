/* SPDX-License-Identifier: MIT */
/* turn.c -- how much of a turn of the loop each connection has taken. */
#include "net/turn.h"

#include <time.h>

uint64_t turn_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool turn_charge(struct turn *turn, struct turn_share *share) {
  uint64_t now = turn_clock(), took = now > turn->looked ? now - turn->looked : 0;
  turn->looked = now;
  if (share->number != turn->number) *share = (struct turn_share){.number = turn->number};
  share->ms = took > UINT32_MAX - share->ms ? UINT32_MAX : share->ms + (uint32_t)took;
  return share->ms < turn->most;
}

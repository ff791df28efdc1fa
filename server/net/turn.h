/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_TURN_H
#define PERIGEE_TURN_H

#include <stdbool.h>
#include <stdint.h>

/* turn.c -- how much of a turn of the loop each connection has taken.
 *
 *   look ──work for A──▶ charge(A) ──work for A──▶ charge(A) false: the rest of A's is put off
 *
 * Whoever works for a connection in portions (messages of one read, members of a batch, tasks that
 * are ready) charges each portion to its share and puts off the rest when that is used up, so that
 * one connection keeps the others waiting for no longer than its share and one portion. What was
 * put off goes on when nothing new has come, or in every fourth turn. The clock is the coarse one,
 * which costs no more than a few loads: what is said about one portion may be wrong by a tick of it
 * (4 ms), what is said about many adds up. Worker's thread only. */

struct turn {
  uint32_t number; /* of this turn */
  uint32_t most;   /* milliseconds that a share has in each turn; UINT32_MAX: no end (tests) */
  uint64_t looked; /* when the clock was looked at last, ms */
  bool has_late;   /* something was put off */
  bool is_late;    /* this turn is for what was put off as well */
  uint8_t waited;  /* turns that what was put off has waited for */
  uint64_t seen;   /* the worker's activity at the end of the last turn */
};

enum { TURN_PATIENCE = 3 }; /* turns that what was put off waits at most while others come */

/* What somebody has taken of the turn it was last charged in. Zero-filled is new. */
struct turn_share {
  uint32_t number; /* of that turn */
  uint32_t ms;
};

/* The clock, for whoever compares two looks at it; ms. */
uint64_t turn_clock(void);

/* Work begins that will be charged. */
static inline void turn_look(struct turn *turn) {
  turn->looked = turn_clock();
}

/* Is its share of this turn used up? Does not look at the clock. */
static inline bool turn_is_over(const struct turn *turn, const struct turn_share *share) {
  return share->number == turn->number && share->ms >= turn->most;
}

/* The same without a look at the clock, which was looked at no later than `now`: what others did
 * since is charged as well. */
static inline void turn_look_back(struct turn *turn, uint64_t now) {
  if (turn->looked < now) turn->looked = now;
}

/* Charges the time since the last look or charge. False when the share is used up. */
bool turn_charge(struct turn *turn, struct turn_share *share);

/* A turn is about to do its work: is it for what was put off, too? activity goes up whenever
 * anything happens. */
static inline void turn_begin(struct turn *turn, uint64_t activity) {
  turn->is_late = turn->has_late && (activity == turn->seen || ++turn->waited > TURN_PATIENCE);
  if (!turn->is_late) return;
  turn->waited = 0;
  turn->has_late = false; /* whoever puts off again says so */
}

/* Every share is whole again. */
static inline void turn_end(struct turn *turn, uint64_t activity) {
  turn->number++;
  turn->seen = activity;
}

#endif

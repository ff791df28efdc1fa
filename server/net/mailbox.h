/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_MAILBOX_H
#define PERIGEE_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* mailbox.c -- a bounded queue into a loop, from any thread.
 *
 * Posting: lock, append, unlock, and one uv_async_send when the box was empty. Receiving: lock,
 * take the whole list, unlock, deliver in order. Posting never blocks for longer than that. */

/* Embedded at the front of every kind of mail. The poster allocates, the receiver frees. */
struct mail {
  struct mail *next; /* the mailbox's */
  uint32_t kind;     /* for the receiver; this room does not look */
  uint32_t weight;   /* bytes that count against the box's limit */
};

typedef void mailbox_fn(void *owner, struct mail *mail);

struct mailbox {
  uv_async_t async;
  uv_mutex_t lock;
  struct mail *first, **last; /* under lock */
  uint32_t count;             /* under lock */
  uint64_t weight;            /* under lock */
  bool is_closed;             /* under lock: mail is refused */
  uint32_t max_count;
  uint64_t max_weight;
  mailbox_fn *deliver; /* on the loop's thread; owns the mail */
  void *owner;
};

void mailbox_open(struct mailbox *box, uv_loop_t *loop, uint32_t max_count, uint64_t max_weight,
                  mailbox_fn *deliver, void *owner);

/* Loop's thread. What still lies in the box is delivered before this returns; later posts fail. */
void mailbox_close(struct mailbox *box);

/* When no thread can post any more (posting to a closed box is allowed until then) and the loop has
 * ended. */
void mailbox_fini(struct mailbox *box);

/* Takes the mail when it returns true. False: the box is full or closed, the mail is still the
 * caller's, who counts the drop. Any thread. */
bool mailbox_post(struct mailbox *box, struct mail *mail);

/* Posts a chain of mail, linked by `next`, with one lock and one wake-up. Returns what did not fit,
 * a chain that is still the caller's, or NULL. Any thread. */
struct mail *mailbox_post_chain(struct mailbox *box, struct mail *first);

/* For control mail, which must arrive: has no limit, so only for what is rare. False: closed. */
bool mailbox_post_control(struct mailbox *box, struct mail *mail);

#endif

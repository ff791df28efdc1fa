/* SPDX-License-Identifier: MIT */
/* mailbox.c -- a bounded queue into a loop, from any thread. */
#include "net/mailbox.h"

#include "base/mem.h"

static void drain(struct mailbox *box) {
  uv_mutex_lock(&box->lock);
  struct mail *mail = box->first;
  box->first = NULL;
  box->last = &box->first;
  box->count = 0;
  box->weight = 0;
  uv_mutex_unlock(&box->lock);
  while (mail) {
    struct mail *next = mail->next; /* deliver frees */
    box->deliver(box->owner, mail);
    mail = next;
  }
}

static void on_async(uv_async_t *async) {
  drain(async->data); /* sends are coalesced: always take everything */
}

void mailbox_open(struct mailbox *box, uv_loop_t *loop, uint32_t max_count, uint64_t max_weight,
                  mailbox_fn *deliver, void *owner) {
  *box = (struct mailbox){
      .max_count = max_count, .max_weight = max_weight, .deliver = deliver, .owner = owner};
  box->last = &box->first;
  check(uv_mutex_init(&box->lock) == 0);
  check(uv_async_init(loop, &box->async, on_async) == 0);
  box->async.data = box;
}

void mailbox_close(struct mailbox *box) {
  uv_mutex_lock(&box->lock);
  box->is_closed = true;
  uv_mutex_unlock(&box->lock);
  drain(box);
  uv_close((uv_handle_t *)&box->async, NULL);
}

void mailbox_fini(struct mailbox *box) {
  uv_mutex_destroy(&box->lock);
}

/* Under the lock, so that no uv_async_send can follow the uv_close in mailbox_close. */
static void append(struct mailbox *box, struct mail *mail) {
  bool was_empty = box->first == NULL;
  mail->next = NULL;
  *box->last = mail;
  box->last = &mail->next;
  box->count++;
  box->weight += mail->weight;
  if (was_empty) uv_async_send(&box->async);
}

static bool has_room(const struct mailbox *box, const struct mail *mail) {
  return box->count < box->max_count && box->weight + mail->weight <= box->max_weight;
}

bool mailbox_post(struct mailbox *box, struct mail *mail) {
  mail->next = NULL;
  return mailbox_post_chain(box, mail) == NULL;
}

struct mail *mailbox_post_chain(struct mailbox *box, struct mail *first) {
  uv_mutex_lock(&box->lock);
  while (first && !box->is_closed && has_room(box, first)) {
    struct mail *mail = first;
    first = mail->next;
    append(box, mail);
  }
  uv_mutex_unlock(&box->lock);
  return first;
}

bool mailbox_post_control(struct mailbox *box, struct mail *mail) {
  uv_mutex_lock(&box->lock);
  bool is_taken = !box->is_closed;
  if (is_taken) append(box, mail);
  uv_mutex_unlock(&box->lock);
  return is_taken;
}

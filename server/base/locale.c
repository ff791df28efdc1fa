/* SPDX-License-Identifier: MIT */
/* locale.c -- the C locale, in which a number has a point. */
#include "base/locale.h"

#include "base/mem.h"

#include <pthread.h>

static locale_t the_c_locale; /* made once and kept for the life of the process */

static void make_c_locale(void) {
  the_c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  check(the_c_locale);
}

locale_t locale_c(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_c_locale);
  return the_c_locale;
}

void locale_hold(void) {
  uselocale(locale_c());
}

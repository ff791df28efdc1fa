/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_LOCALE_H
#define PERIGEE_LOCALE_H

#include <locale.h>

/* locale.c -- the C locale, in which a number has a point.
 *
 * setlocale is for all of the process, and any library that an app loads may call it: from then on
 * printf, strtod, Lua's tostring and tonumber write and read "1,5" where it is German. So each
 * thread of ours that meets numbers is held in the C locale when it begins, and what is set for the
 * process does not reach it. Any thread. */

/* The calling thread stays in the C locale from now on, whatever setlocale is told. */
void locale_hold(void);
/* The C locale itself; for ever. */
locale_t locale_c(void);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_FIRST_H
#define PERIGEE_FIRST_H

/* first.c -- what process number one of a container must do, beside the program.
 *
 * The kernel drops signals to it that it has no handler for, so a stop while apps are loaded would
 * be unheard; and it inherits orphans, which stay zombies until it waits for them, while who waits
 * for any child would take those of libuv and popen away. So number one does this alone, and the
 * program is its child. */

/* In any other process: nothing. In number one: returns in a child of it, and never in itself: it
 * passes signals on, buries who has died, and ends as the child does. First thing in main. */
void first_be_two(void);

#endif

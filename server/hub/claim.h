/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_CLAIM_H
#define PERIGEE_CLAIM_H

/* claim.c -- which project's servers use a state folder now. Any thread; blocks as files do. */

enum { CLAIM_MAX = 4096 }; /* bytes of a project's name and its end */

/* Says, in a file of the folder, that this process uses it for a project, for as long as it keeps
 * the descriptor that is returned: the kernel ends it with the process. *other: the name of another
 * project, malloc'd, when a running server uses the folder for that, else NULL. -1 when nothing can
 * be said, as in a folder that may only be read. */
int claim_take(const char *folder, const char *project, char **other);

#endif

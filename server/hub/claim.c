/* SPDX-License-Identifier: MIT */
/* claim.c -- which project's servers use a state folder now.
 *
 * All that use it hold a shared lock on its file `project`, which names the project of the first.
 * Who gets the lock alone is the first, whatever an earlier one has left in the file. */
#include "hub/claim.h"

#include "base/mem.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int open_file(const char *folder) {
  char path[CLAIM_MAX + 16];
  int n = snprintf(path, sizeof path, "%s/project", folder);
  if (n < 0 || (size_t)n >= sizeof path) return -1;
  return open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* The file's line. */
static char *read_name(int fd) {
  char name[CLAIM_MAX];
  ssize_t n = pread(fd, name, sizeof name - 1, 0);
  name[n > 0 ? n : 0] = '\0';
  name[strcspn(name, "\n")] = '\0';
  return mem_strdup(name);
}

int claim_take(const char *folder, const char *project, char **other) {
  *other = NULL;
  int fd = open_file(folder);
  if (fd < 0) return -1;
  bool is_first = flock(fd, LOCK_EX | LOCK_NB) == 0;
  if (is_first && (ftruncate(fd, 0) != 0 || dprintf(fd, "%s\n", project) < 0)) goto fail;
  /* waits only while the first one writes; who was first may have lost that to another here */
  if (flock(fd, LOCK_SH) != 0) goto fail;
  char *name = read_name(fd);
  if (name[0] && strcmp(name, project) != 0)
    *other = name;
  else
    free(name);
  return fd;
fail:
  close(fd);
  return -1;
}

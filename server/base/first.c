/* SPDX-License-Identifier: MIT */
/* first.c -- what process number one of a container must do, beside the program. */
#include "base/first.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Takes all who have died; returns when the program has not. */
static void bury(pid_t program) {
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid == 0 || (pid < 0 && errno != EINTR)) return;
    if (pid != program) continue;
    _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
  }
}

static _Noreturn void serve_as_first(pid_t program, const sigset_t *signals) {
  for (;;) {
    siginfo_t info;
    int number = sigwaitinfo(signals, &info);
    if (number == SIGCHLD)
      bury(program);
    else if (number > 0 && (info.si_code != SI_KERNEL || number == SIGHUP))
      kill(program,
           number); /* keys give the others to all in front of a terminal; its end, to us */
  }
}

void first_be_two(void) {
  sigset_t all, old;
  if (getpid() != 1) return;
  signal(SIGCHLD, SIG_DFL); /* ignored, as an entry point may have left it, nobody's end is told */
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &old);
  pid_t program = fork();
  if (program > 0) serve_as_first(program, &all);
  if (program < 0) {
    fprintf(stderr, "perigee: cannot start a process: %s\n", strerror(errno));
    exit(1);
  }
  sigprocmask(SIG_SETMASK, &old, NULL);
}

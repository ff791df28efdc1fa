/* SPDX-License-Identifier: MIT */
/* test_host.c -- why an address cannot be listened on, and what to do about it. */
#include "../unit.h"

#include "bridge/host.h"
#include "bridge/settings.h"

static void assert_error(const char *address, int code, const char *expected) {
  struct listen_address at = {.address = (char *)address, .port = 80};
  char *text = host_listen_error(&at, code, "--flag");
  assert_string_equal(text, expected);
  free(text);
}

static void each_cause_has_its_cure(void **state) {
  (void)state;
  assert_error("::1", UV_EADDRINUSE,
               "cannot listen on ::1:80: address already in use -- something else listens there; "
               "stop it or choose another with --flag");
  assert_error("::", UV_EACCES,
               "cannot listen on :::80: permission denied -- ports below 1024 need privileges");
  assert_error("192.0.2.1", UV_EADDRNOTAVAIL,
               "cannot listen on 192.0.2.1:80: address not available -- this machine does not have "
               "that address");
  assert_error(
      "x", UV_EINVAL,
      "cannot listen on x:80: invalid argument -- give an IPv4 address, or an IPv6 address "
      "in brackets");
  assert_error("::", UV_EMFILE, "cannot listen on :::80: too many open files");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_cause_has_its_cure)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* fuzz_deflate.c -- any bytes as a compressed message: bounded, and whatever comes out goes in
 * again. */
#include "../fuzz.h"

#include "wire/deflate.h"

enum { LIMIT = 5000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  struct pmd *pmd = pmd_new();
  uint8_t *out;
  size_t len, len_again;
  uint8_t *copy = exact_copy(data, n);
  enum pmd_result result = pmd_inflate(pmd, copy, n, LIMIT, &out, &len);
  free(copy);
  check(len <= LIMIT);
  if (result == PMD_TOO_BIG) check(len == LIMIT);
  if (result == PMD_DONE && len) {
    uint8_t *text = exact_copy(out, len), *packed = mem_alloc(len + 100);
    size_t k = pmd_deflate(pmd, text, len, packed, len + 100);
    check(k > 0);
    check(pmd_inflate(pmd, packed, k, LIMIT, &out, &len_again) == PMD_DONE);
    check(len_again == len && memcmp(out, text, len) == 0);
    free(text);
    free(packed);
  }
  pmd_release(pmd);
  pmd_free(pmd);
  return 0;
}

/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_TABLE_H
#define PERIGEE_TABLE_H

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>

/* table.h -- uthash as this floor uses it: memory that aborts when it is exhausted, and a keyed
 * hash, as clients choose names. Include this, never <uthash.h>. */
#define uthash_malloc(n)                  mem_alloc(n)
#define uthash_free(p, n)                 free(p)
#define HASH_FUNCTION(key, n, hash_value) ((hash_value) = (unsigned)hash_bytes(key, n))
#include <uthash.h>

#endif

/* SPDX-License-Identifier: MIT */
/* lsecret.c -- random ids, MACs and password hashes for Lua. */
#include "bridge/lsecret.h"

#include "base/mem.h"
#include "bridge/host.h"
#include "wire/digest.h"

#include <lauxlib.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { RANDOM_MAX = 256 };

/* ---- short work ------------------------------------------------------------------------------ */

static int push_base64url(lua_State *L, const void *data, size_t n) {
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, base64url_len(n));
  base64url_write(data, n, out);
  luaL_pushresultsize(&b, base64url_len(n));
  return 1;
}

int l_random_id(lua_State *L) {
  uint8_t bytes[RANDOM_MAX];
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 1 && n <= RANDOM_MAX, 1, "1 to 256 bytes");
  /* up to 256 bytes come whole, once the source is ready (getrandom(2)) */
  check(getrandom(bytes, (size_t)n, 0) == (ssize_t)n);
  return push_base64url(L, bytes, (size_t)n);
}

int l_sha256(lua_State *L) {
  uint8_t digest[DIGEST_LEN];
  char hex[DIGEST_LEN * 2 + 1];
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  digest_sha256(text, n, digest);
  sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
  lua_pushlstring(L, hex, sizeof hex - 1);
  return 1;
}

int l_hmac(lua_State *L) {
  uint8_t mac[DIGEST_LEN];
  size_t key_len, n;
  const char *key = luaL_checklstring(L, 1, &key_len);
  const char *text = luaL_checklstring(L, 2, &n);
  digest_hmac(key, key_len, text, n, mac);
  return push_base64url(L, mac, sizeof mac);
}

int l_same(lua_State *L) {
  size_t a_len, b_len;
  const char *a = luaL_checklstring(L, 1, &a_len), *b = luaL_checklstring(L, 2, &b_len);
  lua_pushboolean(L, a_len == b_len && digest_equal(a, b, a_len));
  return 1;
}

int l_base64url(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  return push_base64url(L, text, n);
}

int l_from_base64url(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n);
  luaL_Buffer b;
  char *out = luaL_buffinitsize(L, &b, n * 3 / 4 + 1);
  size_t k = base64url_read(text, n, (uint8_t *)out);
  if (k == SIZE_MAX) return 0;
  luaL_pushresultsize(&b, k);
  return 1;
}

/* ---- passwords ------------------------------------------------------------------------------- */

/* What OWASP's password storage guide asks of argon2id: 19 MiB, two passes, one lane. */
enum { PASSES = 2, MEMORY = 19 * 1024 * 1024 };

/* Belongs to the userdata that Lua holds and to the pool while it works; the later one of the two
 * to let go frees it. */
struct job {
  uv_work_t work; /* must be first */
  struct host *host;
  uint64_t task;
  uint32_t wait;
  char *password; /* owned; wiped */
  size_t password_len;
  char hash[crypto_pwhash_STRBYTES];
  bool is_verifying;
  bool is_ok, is_weak;
  bool is_working, is_dropped;
};

static const char metatable[] = "perigee.password_job";

static void on_pool(uv_work_t *work) {
  struct job *job = (struct job *)work;
  if (job->is_verifying) {
    job->is_ok = crypto_pwhash_str_verify(job->hash, job->password, job->password_len) == 0;
    job->is_weak = job->is_ok && crypto_pwhash_str_needs_rehash(job->hash, PASSES, MEMORY) != 0;
  } else {
    job->is_ok = crypto_pwhash_str_alg(job->hash, job->password, job->password_len, PASSES, MEMORY,
                                       crypto_pwhash_ALG_ARGON2ID13) == 0;
  }
  sodium_memzero(job->password, job->password_len);
}

static void job_free(struct job *job) {
  free(job->password);
  free(job);
}

static void on_worked(uv_work_t *work, int status) {
  struct job *job = (struct job *)work;
  (void)status;
  job->is_working = false;
  if (job->is_dropped)
    job_free(job);
  else
    task_wake(job->host, job->task, job->wait);
}

static int l_job_results(lua_State *L) {
  struct job **box = luaL_checkudata(L, 1, metatable), *job = *box;
  if (!job || job->is_working) return luaL_error(L, "this job is not done");
  if (job->is_verifying) {
    lua_pushboolean(L, job->is_ok);
    lua_pushboolean(L, job->is_weak);
    return 2;
  }
  if (!job->is_ok) return luaL_error(L, "no memory to hash a password");
  lua_pushstring(L, job->hash);
  return 1;
}

static int l_job_gc(lua_State *L) {
  struct job **box = luaL_checkudata(L, 1, metatable), *job = *box;
  *box = NULL;
  if (!job) return 0;
  if (job->is_working)
    job->is_dropped = true;
  else
    job_free(job);
  return 0;
}

static int begin(lua_State *L, bool is_verifying) {
  struct host *h = host_of(L);
  uint64_t task = (uint64_t)luaL_checkinteger(L, 1);
  uint32_t wait = (uint32_t)luaL_checkinteger(L, 2);
  size_t n, hash_len = 0;
  const char *password = luaL_checklstring(L, 3, &n);
  const char *hash = is_verifying ? luaL_checklstring(L, 4, &hash_len) : "";
  luaL_argcheck(L, hash_len < crypto_pwhash_STRBYTES, 4, "that is no password hash");
  if (sodium_init() < 0) return luaL_error(L, "libsodium cannot be used");
  struct job **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  if (luaL_newmetatable(L, metatable)) {
    lua_pushcfunction(L, l_job_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, l_job_results);
    lua_setfield(L, -2, "__call");
  }
  lua_setmetatable(L, -2);
  struct job *job = *box = mem_zalloc(sizeof *job); /* from here on the collector frees it */
  job->host = h;
  job->task = task;
  job->wait = wait;
  job->is_verifying = is_verifying;
  job->password = mem_dup(password, n + 1);
  job->password_len = n;
  memcpy(job->hash, hash, hash_len);
  job->is_working = uv_queue_work(&h->worker.loop, &job->work, on_pool, on_worked) == 0;
  if (!job->is_working) return luaL_error(L, "the thread pool refuses work");
  return 1;
}

int l_password_hash(lua_State *L) {
  return begin(L, false);
}

int l_password_verify(lua_State *L) {
  return begin(L, true);
}

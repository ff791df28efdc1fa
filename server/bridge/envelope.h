/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_ENVELOPE_H
#define PERIGEE_ENVELOPE_H

#include "bridge/json.h"

/* envelope.c -- the members of a JSON-RPC message: read from text, written around a result.
 *
 * It reads members and judges nothing: what a message without "jsonrpc" means, or whether a null id
 * asks for an answer, is decided in lua/perigee/rpc.lua, which is told the facts as bits. */

/* The facts about one message. Lua sees these names as core.envelope (bridge/state.c). */
enum envelope_bits {
  /* the text */
  ENV_MALFORMED = 1 << 0, /* not JSON; nothing else is known */
  ENV_NOT_OBJECT = 1 << 1,
  ENV_OVER_LIMIT = 1 << 2,   /* params are over a limit */
  ENV_OUT_OF_RANGE = 1 << 3, /* params hold a number beyond 64 bits or a double */
  /* jsonrpc */
  ENV_VERSION_2 = 1 << 4,     /* "2.0" */
  ENV_VERSION_OTHER = 1 << 5, /* there, but anything else */
  /* method */
  ENV_METHOD = 1 << 6,     /* a string */
  ENV_METHOD_BAD = 1 << 7, /* there, but anything else */
  /* params */
  ENV_PARAMS_ARRAY = 1 << 8,
  ENV_PARAMS_OBJECT = 1 << 9,
  ENV_PARAMS_NULL = 1 << 10,
  ENV_PARAMS_OTHER = 1 << 11,
  /* id */
  ENV_ID = 1 << 12, /* a string or number of at most 256 bytes */
  ENV_ID_NULL = 1 << 13,
  ENV_ID_BAD = 1 << 14, /* a boolean, array, object, or too long */
  /* an answer to a call of ours */
  ENV_RESULT = 1 << 15,
  ENV_ERROR = 1 << 16,
  /* how it came; set by the caller */
  ENV_HTTP = 1 << 17,
  ENV_BATCH = 1 << 18,
  ENV_DRAINING = 1 << 19, /* the server is about to stop: no new work */
  ENV_BUSY = 1 << 20,     /* calls in flight hold so much memory that this one must wait */
};

/* Bytes of an id as the client wrote it: a number's, or those between a string's quotes, where an
 * escape counts as it is written. */
enum { ENVELOPE_ID_MAX = 256 };

/* Bytes in the message's text; of a member that comes twice, the last. */
struct envelope_span {
  const char *at;
  uint32_t len;
};

struct envelope {
  uint32_t bits;
  struct envelope_span method; /* with its quotes */
  struct envelope_span params;
  struct envelope_span id;     /* with its quotes; len 0: none to send back */
  struct envelope_span result; /* of an answer */
  struct envelope_span error;
  struct json_reader reader; /* after trouble: what and where */
};

/* Finds the members of one message and checks all of its text. The text must be valid UTF-8. */
void envelope_read(struct envelope *e, const char *text, size_t n, struct json_scratch *scratch);

/* Pushes method, params and id, each nil when it is not there [-0, +3, m]. Params over the limits
 * are nil as well: bits and reader then say why. array_mt: stack index of the array metatable. */
void envelope_push(lua_State *L, struct envelope *e, const struct json_limits *limits,
                   int array_mt);

/* Splits a batch into the texts of its members. Returns their number; at most `max` are stored.
 * -1: not JSON, with *error and *error_at. */
int envelope_split(const char *text, size_t n, struct envelope_span *members, int max,
                   const char **error, size_t *error_at);

/* Is this text an array, looked at from outside? */
bool envelope_is_batch(const char *text, size_t n);

/* How an answer is written. */
enum envelope_style {
  ENV_SILENT = 0,   /* not at all */
  ENV_RESULT_2 = 1, /* {"jsonrpc":"2.0","result":R,"id":I} */
  ENV_ERROR_2 = 2,
  ENV_RESULT_1 = 3, /* {"result":R,"error":null,"id":I} */
  ENV_ERROR_1 = 4,
  ENV_RAW = 1 << 8, /* with one of those: the value is JSON text already */
};

/* Writes what stands before and after the value. id len 0 writes null. */
void envelope_open(struct builder *b, enum envelope_style style);
void envelope_close(struct builder *b, enum envelope_style style, const char *id, uint32_t id_len);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef PERIGEE_SQLITE_H
#define PERIGEE_SQLITE_H

#include "hub/store.h"

/* sqlite.c -- keeps sessions in an SQLite file, or in memory.
 *
 * `where` is a file's path, made when it is not there, or ":memory:". The file is in WAL mode with
 * synchronous=NORMAL: what was answered survives the end of the process, however it ends; a loss of
 * power may take the last moments. Several processes of one machine may share a file. */
extern const struct store_keeper sqlite_keeper;

#endif

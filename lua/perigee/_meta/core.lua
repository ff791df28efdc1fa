---@meta
--- What C gives to Lua as require("perigee.core"). Never executed: for editors, and compared with
--- what server/bridge/state.c registers by tests/rules/meta.
---
--- Connections and tasks are plain integers that are never used twice: one that is gone finds nothing.
--- Each HTTP request is a connection of its own.

---@class perigee.core
local core = {}

--- Version of the server.
---@type string
core.version = nil
--- Random name of this process: 16 hexadecimal digits.
---@type string
core.node = nil
--- Index of this worker, from 0.
---@type integer
core.worker = nil
--- How many workers this process has.
---@type integer
core.workers = nil
--- Is the channel layer Redis?
---@type boolean
core.has_redis = nil
--- Begins every key and channel in Redis.
---@type string
core.layer_prefix = nil
--- Seconds Redis has to answer.
---@type number
core.layer_timeout = nil
--- Is this `perigee dev`?
---@type boolean
core.is_dev = nil
--- Least important level that is logged.
---@type "error"|"warn"|"info"|"debug"
core.log_level = nil
---@type "text"|"json"
core.log_format = nil
--- Bytes that a method's name may have where a consumer does not say otherwise.
---@type integer
core.max_method = nil
--- JSON's null: a light userdata of NULL, equal to lua-cjson's.
---@type lightuserdata
core.null = nil
--- Metatable of tables that are JSON arrays.
---@type table
core.array_mt = nil
--- Bits and styles of messages: server/bridge/envelope.h.
---@type table<string, integer>
core.envelope = nil

---@alias perigee.Conn integer
---@alias perigee.Task integer

-- ---- tasks and time -------------------------------------------------------------------------------

--- Seconds, monotonic, as of the loop's last look at the clock.
---@return number
function core.now() end

--- Runs a function as a task of its own, on the next turn.
---@param fn function
---@param ... any
---@return perigee.Task
function core.spawn(fn, ...) end

--- From now on (or no longer) the code of an app that is being loaded runs: nothing can wait.
---@param is_loading boolean
function core.loading(is_loading) end

---@return boolean
function core.is_loading() end

--- Id of the running task and the number of a new wait, which ends the one before. Raises where nothing
--- can wait: outside of a task, or below a C function.
---@return perigee.Task task
---@return integer wait
function core.wait_open() end

--- Waits until woken, or until the time is over. With the number from wait_open it returns at once
--- when that wait was woken meanwhile.
---@param seconds? number
---@param wait? integer
---@return boolean woken
---@return any ... what the waker passed
function core.park(seconds, wait) end

--- pcall and xpcall for apps: what is closed for an error may wait though the task is being ended.
---@param fn function
---@param ... any
---@return boolean ok
---@return any ...
function core.pcall(fn, ...) end

---@param fn function
---@param handler function
---@param ... any
---@return boolean ok
---@return any ...
function core.xpcall(fn, handler, ...) end

--- Wakes a wait. False when it is over.
---@param task perigee.Task
---@param wait integer
---@param ... any
---@return boolean
function core.wake(task, wait, ...) end

---@return perigee.Task?
function core.running() end

---@param task perigee.Task
---@return boolean
function core.is_task(task) end

--- now() at which the task's time is over, once that is set.
---@param task perigee.Task
---@return number?
function core.deadline(task) end

--- Ends a task at its next wait, with the error "cancelled". False when there is none.
---@param task perigee.Task
---@return boolean
function core.cancel(task) end

--- Is the task to end at its next wait, or has it caught the error that should have ended it?
---@param task perigee.Task
---@return boolean
function core.is_stopped(task) end

--- Is this code being ended because it ran for too long without waiting?
---@return boolean
function core.is_stopping() end

--- Begins a function of a module on a thread; the wait is woken when it is done. Calling the job then
--- returns true and the results, or false and the error's text.
---@param task perigee.Task
---@param wait integer
---@param folder string where modules are looked for
---@param module string
---@param name string
---@param ... any plain values
---@return (fun(): boolean, any)? job nil when too many wait already
function core.blocking(task, wait, folder, module, name, ...) end

--- Modules were loaded anew: threads load them again.
function core.blocking_forget() end

-- ---- connections ----------------------------------------------------------------------------------

--- Answers a handshake that waits. Without a subprotocol the first of the consumer's that the client
--- offers. False when the connection is gone or was answered.
---@param conn perigee.Conn
---@param subprotocol? string
---@param headers? string lines "Name: value\r\n"
---@return boolean
function core.accept(conn, subprotocol, headers) end

---@param conn perigee.Conn
---@param status integer
---@param body? string
---@param headers? string lines "Name: value\r\n"
---@return boolean
function core.reject(conn, status, body, headers) end

--- A line with the client's address and port, scheme and host, as trusted proxies tell them; then the
--- request's head as it came. Nil when the connection or its request is over.
---@param conn perigee.Conn
---@return string?
function core.head(conn) end

--- Lua has an instance for it, so it must hear of its end. False when it is over already.
---@param conn perigee.Conn
---@return boolean
function core.touch(conn) end

--- Record of the connection's consumer.
---@param conn perigee.Conn
---@return perigee.Record?
function core.record(conn) end

---@param conn perigee.Conn
---@return boolean
function core.is_open(conn) end

--- Starts the closing handshake.
---@param conn perigee.Conn
---@param code? integer default 1000
---@param reason? string
---@return boolean
function core.close(conn, code, reason) end

--- Sends a message as it is.
---@param conn perigee.Conn
---@param data string
---@param is_binary? boolean
---@return boolean
function core.send(conn, data, is_binary) end

--- Sends a notification. flags: 1: JSON-RPC 1.0; 2: params are JSON text.
---@param conn perigee.Conn
---@param method string
---@param params? any
---@param flags? integer
---@return boolean
function core.notify(conn, method, params, flags) end

--- Sends a request with that id.
---@param conn perigee.Conn
---@param id string
---@param method string
---@param params? any
---@param flags? integer
---@return boolean
function core.request(conn, id, method, params, flags) end

--- 1 more (or -1 less) of its calls waits for the client.
---@param conn perigee.Conn
---@param change integer
function core.peer_wait(conn, change) end

--- Does Lua want to see every connection open and close?
---@param watch boolean
function core.watch_conns(watch) end

--- Ids of open connections from a place in the table on, and where to go on; nil: that was all.
---@param cursor integer 0: from the start
---@param limit integer 1 to 1000
---@param path? string of their consumer
---@param group? string they are in
---@param text? string in their client's address or request
---@return perigee.Conn[]
---@return integer? cursor
function core.conns(cursor, limit, path, group, text) end

---@param conn perigee.Conn
---@return table? facts
function core.conn_facts(conn) end

--- Closes it without a closing handshake.
---@param conn perigee.Conn
---@return boolean
function core.cut(conn) end

--- WebSockets that were opened or closed (code, reason) since the last call, and how many more.
---@param watch boolean go on, or stop
---@param dropped? integer events that Lua did not keep, for the counter
---@return { conn: perigee.Conn, at: number, path: string, code?: integer, reason?: string }[]
---@return integer more
function core.sightings(watch, dropped) end

-- ---- groups ---------------------------------------------------------------------------------------

--- Joins, or changes the meta. For who waits it returns a wait when messages of other machines arrive
--- only after it.
---@param conn perigee.Conn
---@param name string
---@param meta? string JSON
---@param waits? boolean
---@return boolean joined
---@return integer? wait
function core.group_add(conn, name, meta, waits) end

---@param conn perigee.Conn
---@param name string
---@return boolean left
function core.group_discard(conn, name) end

---@param conn perigee.Conn
---@return string[]
function core.groups_of(conn) end

--- Members in this process.
---@param name string
---@return integer
function core.group_count(name) end

--- The largest groups on this worker, and how many there are.
---@param limit integer 1 to 1000
---@param text? string part of the name
---@return { name: string, members: integer }[]
---@return integer total
function core.groups(limit, text) end

--- Workers of this process that have members, in order.
---@param name string
---@return integer[]
function core.group_workers(name) end

--- Members on this worker.
---@param name string
---@return perigee.Conn[]
function core.members(name) end

--- The first `limit` members on this worker whose id is higher than `after`, in order.
---@param name string
---@param after perigee.Conn
---@param limit integer 1 to 1000
---@return perigee.Conn[]
---@return (string|false)[] metas JSON
function core.members_after(name, after, limit) end

--- One frame for all members of one group or several, once each.
---@param names string|string[]
---@param method string
---@param params? any
---@param except? (perigee.Conn|string)[] connections and channels to leave out
---@param flags? integer as in notify
function core.publish(names, method, params, except, flags) end

--- Sends a notification to a connection anywhere. Returns a wait when only another process knows
--- whether it is there; it is passed true or false.
---@param channel string
---@param method string
---@param params? any
---@param flags? integer as in notify
---@return boolean|integer
function core.notify_channel(channel, method, params, flags) end

--- Sends a text to perigee.mail of the worker that has a channel, or is one (conn 0).
---@param channel string
---@param text string
---@param wants_answer? boolean
---@return boolean|integer as notify_channel
function core.post(channel, text, wants_answer) end

--- Sends a text to perigee.mail of all other workers with members of a group.
---@param name string
---@param text string
function core.post_groups(name, text) end

--- Sends a command to Redis. Returns a wait that is passed true and the reply, false and an error's
--- text, or false when Redis cannot be reached or was lost; nil when the layer is memory.
---@param ... string|number
---@return integer? wait
function core.redis(...) end

-- ---- values that all workers of this process see --------------------------------------------------

---@param key string
---@return any
function core.shared_get(key) end

---@param key string
---@param value any what JSON can hold
---@param ttl number seconds; 0: for ever
---@param only_new boolean
---@return boolean? set false: there is one; nil: there is no room
function core.shared_set(key, value, ttl, only_new) end

---@param key string
---@param by number
---@param ttl number for a new one
---@return number|false|nil sum false: it is no number; nil: there is no room
function core.shared_incr(key, by, ttl) end

---@param key string
---@param ttl number
---@return boolean found
function core.shared_expire(key, ttl) end

---@param key string
---@return boolean found
function core.shared_delete(key) end

-- ---- sessions, tokens, passwords -------------------------------------------------------------------

--- Header lines that go with the answer to the request in progress, instead of those given before. False
--- when there is none to come.
---@param conn perigee.Conn
---@param lines string "Name: value\r\n", at most 800 bytes
---@return boolean
function core.answer_lines(conn, lines) end

--- A setting as the operator gave it.
---@param name "sessions"|"session_cookie"|"session_same_site"|"session_ttl"|"state"|"secret"|"apps"
---@return string|integer|nil
function core.setting(name) end

--- Opens the session store unless it is open. Blocks. Raises what is wrong and what to do.
---@param where string a file, or ":memory:"; of Redis the prefix of keys, a space and the URL
---@param is_redis? boolean
function core.store_open(where, is_redis) end

--- This process uses a state folder for a project, from the first such call until its end. The name of
--- another project whose server does so too, if any.
---@param folder string
---@param project string
---@return string?
function core.claim_state(folder, project) end

--- Each of these begins a job; the wait is woken when it is done, and then job() tells: true and, for
--- load, the fields as JSON by key and whether the session's end was moved; or false and "absent" or
--- "failed". Nil when the store takes no more.
---@param task perigee.Task
---@param wait integer
---@param id string
---@param now integer seconds since 1970
---@param ends integer
---@param touch_below integer its end is moved to `ends` when it is before this
---@return (fun(): boolean, table<string, string>|string, boolean)?
function core.store_load(task, wait, id, now, ends, touch_below) end

---@param task perigee.Task
---@param wait integer
---@param id string
---@param now integer
---@param ends integer
---@param changes table<string, string|false> JSON by key; false: remove
---@param may_create boolean
---@param new_id? string
---@return (fun(): boolean, string?)?
function core.store_save(task, wait, id, now, ends, changes, may_create, new_id) end

---@param task perigee.Task
---@param wait integer
---@param id string
---@param now integer
---@return (fun(): boolean, string?)?
function core.store_destroy(task, wait, id, now) end

--- Bytes of the system's random source, as base64url.
---@param bytes integer 1 to 256
---@return string
function core.random_id(bytes) end

---@param text string
---@return string hex
function core.sha256(text) end

--- HMAC-SHA256 as base64url.
---@param key string
---@param text string
---@return string
function core.hmac(key, text) end

--- Are two texts equal? The time it takes tells nothing but their lengths.
---@param a string
---@param b string
---@return boolean
function core.same(a, b) end

---@param text string
---@return string
function core.base64url(text) end

---@param text string
---@return string? nil when it is none
function core.from_base64url(text) end

--- Begins hashing on a thread; the wait is woken when it is done, and then job() returns the hash.
---@param task perigee.Task
---@param wait integer
---@param password string
---@return fun(): string
function core.password_hash(task, wait, password) end

---@param task perigee.Task
---@param wait integer
---@param password string
---@param hash string
---@return fun(): boolean, boolean do they belong together; is the hash weaker than today's
function core.password_verify(task, wait, password, hash) end

-- ---- the rest -------------------------------------------------------------------------------------

--- Replaces what is served: see server/bridge/routes.h.
---@param routes table[]
function core.serve(routes) end

--- What was served and is no more: its WebSockets are closed with 1001 when their calls have ended.
function core.retire() end

--- The inspector's consumer; C decides who may reach it.
---@param route table as in serve
function core.serve_inspector(route) end

---@param pattern string
---@return boolean
function core.is_origin_pattern(pattern) end

--- Is this a name or an address that a Host field may have, without a port; or `.NAME`, for all below it?
---@param text string
---@return boolean
function core.is_host(text) end

--- Is this an IP address, or a network such as "10.0.0.0/8"?
---@param text string
---@return boolean
function core.is_network(text) end

---@param value any
---@return string? text
---@return string? err
function core.json_encode(value) end

---@param text string
---@return any value
---@return string? err
function core.json_decode(text) end

--- Handles of luv's that are not closed.
---@return userdata[]
function core.luv_handles() end

---@param level "error"|"warn"|"info"|"debug"
---@param event string
---@param fields? table<string, any>
---@param block? string lines below the line
function core.log(level, event, fields, block) end

--- A text of others' as it may be shown: what a terminal obeys, marks of direction and bytes that are no
--- UTF-8 are escaped; ends of lines and tabs stay.
---@param text string
---@return string
function core.printable(text) end

--- May one more line of this kind be logged in this second?
---@param level "error"|"warn"|"info"|"debug"
---@param kind string
---@param burst integer lines per second
---@return integer? missed how many were held back since the last one; nil: no
function core.log_due(level, kind, burst) end

--- error() for apps: remembers the text without its position.
---@param message any
---@param level? integer
function core.error(message, level) end

--- What was given to the apps' error() that became this text, with a position in front; nil when it
--- did not become that lately.
---@param text string
---@return string?
function core.raised(text) end

--- One more of what a counter counts.
---@param name string as in server/base/metrics.def
function core.count(name) end

---@param is_all? boolean of all workers, not only of this one
---@return table<string, integer>
function core.metrics(is_all) end

--- Bytes of Lua memory in use, and the cap.
---@return integer used
---@return integer max
function core.memory() end

--- For commands: what looks like an app in a folder and is none, because no app can have its name.
---@param apps string
---@return { path: string, why: string }[]
function core.left_out(apps) end

--- For commands: gives a command to each running server of that folder of apps, and waits for answers.
---@param apps string
---@param command string
---@param seconds number that each may take
---@return { ok: boolean?, text: string, user: integer?, is_stranger: boolean }[] answers ok is nil when none
---came, and text says why; is_stranger: of another user, not asked
function core.remote(apps, command, seconds) end

--- Text of a file that is built into the binary; without a name the names of all.
---@param name? string "perigee/rpc.lua"
---@return string|string[]?
function core.embedded(name) end

---@class perigee.WsClient framing of a client's side: server/bridge/lwsclient.h
---@field message fun(self, data: string, is_binary?: boolean): string
---@field ping fun(self, data?: string): string
---@field close fun(self, code?: integer, reason?: string): string
---@field feed fun(self, input: string): table[], string, string?

---@return perigee.WsClient
function core.ws_client() end

return core

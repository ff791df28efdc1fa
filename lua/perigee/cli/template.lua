--- What `perigee new` writes: the chat as it is among the examples, and what a project has around it.
local core = require("perigee.core")
local types = require("perigee.types")

local M = {}

local conf = [[
-- Settings of this project; every line is optional. 'perigee config' shows what counts, 'perigee config
-- --defaults' all there are. PERIGEE_* variables and flags win over this file.
return {
  apps = "apps",
  listen = env("LISTEN", "127.0.0.1:8080"),
}
]]

local luarc = [[
{
  "runtime.version": "Lua 5.4",
  "runtime.path": ["apps/?.lua", "apps/?/init.lua", "?.lua", "?/init.lua"],
  "workspace.library": [".perigee/types"],
  "workspace.checkThirdParty": "Disable",
  "diagnostics.globals": ["describe", "it", "before_each", "after_each", "pending", "env", "secret"]
}
]]

local luacheckrc = [[
std = "lua54"
max_line_length = 120
exclude_files = { ".perigee" }

files["**/spec/*_spec.lua"] = { std = "+busted" }
files["perigee.conf.lua"] = { read_globals = { "env", "secret" } }
]]

local gitignore = [[
# settings and secrets of this machine alone
.env
*.local.lua
# what a running server keeps
/state/
]]

---@param name string
---@return string
local function readme(name)
  return ([[
# %s

```console
$ perigee dev                       # serve it here, errors shown: http://127.0.0.1:8080/chat/
$ perigee call chat rooms           # call a method from the terminal
$ perigee test                      # run apps/*/spec
$ perigee check                     # look for mistakes without starting anything
$ perigee routes                    # list what can be called
```

| | |
|---|---|
| `apps/chat/init.lua` | what clients can call; start reading here |
| `apps/chat/public/` | its page, served at `/chat/` |
| `apps/chat/spec/` | its tests |
| `perigee.conf.lua` | settings |
| `.luarc.json`, `.perigee/types` | what editors with LuaLS know about `perigee`; 'perigee new --types' writes it anew |
]]):format(name)
end

--- Files by path.
---@param name string of the project
---@return table<string, string>
function M.project(name)
  local files = M.types()
  files["perigee.conf.lua"] = conf
  files[".luarc.json"] = luarc
  files[".luacheckrc"] = luacheckrc
  files[".gitignore"] = gitignore
  files["README.md"] = readme(name)
  for _, embedded in ipairs(core.embedded() --[[@as string[] ]]) do
    local path = embedded:match("^template/(.+)$")
    if path then files[path] = core.embedded(embedded) --[[@as string]] end
  end
  return files
end

---@return table<string, string>
function M.types()
  return { [".perigee/types/perigee.lua"] = types.perigee(), [".perigee/types/perigee/testing.lua"] = types.testing() }
end

return M

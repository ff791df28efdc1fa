--- perigee completion: what bash, zsh and fish complete, from the tables that the flags are read by.
local config = require("perigee.config")
local flags = require("perigee.cli.flags")
local spelling = require("perigee.spelling")

local SHELLS = { "bash", "zsh", "fish" }

---@class perigee.Completion of one flag
---@field words string[] "--json", "-H"
---@field doc string
---@field has_value boolean
---@field kind? string what the value is: "file", "dir"
---@field choices? string[]
---@field is_many boolean

--- All flags of a command.
---@param command perigee.Command
---@return perigee.Completion[]
local function completions(command)
  local own, keys = flags.of(command)
  local list = {}
  for _, flag in ipairs(own) do
    list[#list + 1] = {
      words = { flag.name, flag.short }, doc = flag.doc, has_value = flag.value ~= nil, kind = flag.completes,
      choices = flag.choices, is_many = flag.many or false,
    }
  end
  for _, key in ipairs(keys) do
    local name = config.flag(key.name)
    list[#list + 1] = {
      words = { name, key.type == "boolean" and "--no-" .. name:sub(3) or nil }, doc = key.doc,
      has_value = key.type ~= "boolean", kind = key.type == "path" and "dir" or nil,
      choices = key.choices or key.type == "workers" and { "auto" } or key.type == "layer" and { "memory" } or nil,
      is_many = config.is_list(key),
    }
  end
  list[#list + 1] = { words = { "--help", "-h" }, doc = "Show help.", has_value = false, is_many = false }
  return list
end

--- The words that a command takes, when they are of a fixed set.
---@param command perigee.Command
---@return string[]?
local function words_of(command)
  if command.completes == "verb" then return require("perigee.cli").verbs end
  if command.completes == "shell" then return SHELLS end
  if command.completes == "setting" then return config.names() end
end

--- Commands by name, in order.
local function each_command()
  local cli = require("perigee.cli")
  local i = 0
  return function()
    i = i + 1
    local verb = cli.verbs[i]
    if verb then return verb, cli.command(verb) end
  end
end

---@param shell string
---@return string
local function head(shell)
  return ("# %s completion for perigee; written by 'perigee completion %s'.\n"):format(shell, shell)
end

-- ---- bash ---------------------------------------------------------------------------------------

local function bash()
  local cli = require("perigee.cli")
  local values, words = {}, {}
  for verb, command in each_command() do
    local all = {}
    for _, one in ipairs(completions(command)) do
      for _, word in ipairs(one.words) do
        all[#all + 1] = word
        if one.has_value then
          local action = one.choices and ('-W "%s"'):format(table.concat(one.choices, " "))
            or one.kind == "dir" and "-d" or one.kind == "file" and "-f" or "-W ''"
          values[#values + 1] = ("    %s:%s) _perigee_reply %s; return ;;\n"):format(verb, word, action)
        end
      end
    end
    local fixed = words_of(command)
    local action = fixed and ('-W "%s"'):format(table.concat(fixed, " "))
      or command.completes == "dir" and "-d" or command.completes == "file" and "-f" or "-W ''"
    words[#words + 1] = ('    %s) flags="%s"; action=(%s) ;;\n'):format(verb, table.concat(all, " "), action)
  end
  return head("bash") .. ([[
_perigee_reply() { # compgen's arguments
  local IFS=$'\n'
  COMPREPLY=($(IFS=$' \t\n'; compgen "$@" -- "$cur"))
}

_perigee() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} flags="" action=()
  COMPREPLY=()
  # --flag=value comes as three words
  if [ "$prev" = "=" ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi
  if [ "$cur" = "=" ]; then cur="" prev=${COMP_WORDS[COMP_CWORD-1]}; fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    _perigee_reply -W "%s --help --version"
    return
  fi
  case $verb:$prev in
%s  esac
  case $verb in
%s  esac
  case $cur in
    -*) _perigee_reply -W "$flags" ;;
    *) if [ ${#action[@]} -gt 0 ]; then _perigee_reply "${action[@]}"; fi ;;
  esac
}

complete -o filenames -F _perigee perigee
]]):format(table.concat(cli.verbs, " "), table.concat(values), table.concat(words))
end

-- ---- zsh ----------------------------------------------------------------------------------------

--- Inside of '…:…[…]' of _arguments and _describe.
---@param text string
---@return string
local function zsh_quote(text)
  return (text:gsub("[%[%]:\\]", "\\%0"):gsub("'", "'\\''"))
end

---@param kind string?
---@param choices string[]?
---@return string
local function zsh_action(kind, choices)
  if choices then return "(" .. table.concat(choices, " ") .. ")" end
  return kind == "dir" and "_files -/" or kind == "file" and "_files" or " "
end

local function zsh()
  local commands, cases = {}, {}
  for verb, command in each_command() do
    commands[#commands + 1] = ("    '%s:%s'\n"):format(verb, zsh_quote(command.summary))
    local out = {}
    for _, one in ipairs(completions(command)) do
      for _, word in ipairs(one.words) do
        local value = one.has_value and ":value:" .. zsh_action(one.kind, one.choices) or ""
        local equals = one.has_value and word:find("^%-%-") and "=" or one.has_value and "+" or ""
        out[#out + 1] = ("'%s%s%s[%s]%s'"):format(
          one.is_many and "*" or "", word, equals, zsh_quote(one.doc), value)
      end
    end
    -- a word that nothing is known of is left out: it would keep zsh from completing flags
    local fixed = words_of(command)
    if fixed or command.completes == "dir" or command.completes == "file" then
      out[#out + 1] = ("'*:word:%s'"):format(zsh_action(command.completes, fixed))
    end
    cases[#cases + 1] = ("    %s)\n      _arguments \\\n        %s\n      ;;\n"):format(
      verb, table.concat(out, " \\\n        "))
  end
  return "#compdef perigee\n" .. head("zsh") .. ([[
_perigee() {
  local -a commands
  commands=(
%s  )
  if (( CURRENT == 2 )); then
    _describe -t commands command commands
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
%s  esac
}

if [ "$funcstack[1]" = _perigee ]; then _perigee "$@"; else compdef _perigee perigee; fi
]]):format(table.concat(commands), table.concat(cases))
end

-- ---- fish ---------------------------------------------------------------------------------------

---@param text string
---@return string
local function fish_quote(text)
  return "'" .. text:gsub("[\\']", "\\%0") .. "'"
end

local function fish()
  local out = { head("fish"), "complete -c perigee -f\n" }
  for verb, command in each_command() do
    out[#out + 1] = ("complete -c perigee -n __fish_use_subcommand -a %s -d %s\n"):format(
      verb, fish_quote(command.summary))
    local condition = ("complete -c perigee -n '__fish_seen_subcommand_from %s'"):format(verb)
    for _, one in ipairs(completions(command)) do
      for _, word in ipairs(one.words) do
        local name = word:find("^%-%-") and "-l " .. word:sub(3) or "-s " .. word:sub(2)
        local value = not one.has_value and ""
          or one.choices and " -x -a " .. fish_quote(table.concat(one.choices, " "))
          or one.kind == "dir" and " -x -a '(__fish_complete_directories)'" or one.kind == "file" and " -r -F" or " -x"
        out[#out + 1] = ("%s %s%s -d %s\n"):format(condition, name, value, fish_quote(one.doc))
      end
    end
    local fixed = words_of(command)
    if fixed then
      out[#out + 1] = ("%s -a %s\n"):format(condition, fish_quote(table.concat(fixed, " ")))
    elseif command.completes == "dir" then
      out[#out + 1] = condition .. " -a '(__fish_complete_directories)'\n"
    elseif command.completes == "file" then
      out[#out + 1] = condition .. " -F\n"
    end
  end
  return table.concat(out)
end

local writers = { bash = bash, zsh = zsh, fish = fish }

---@type perigee.Command
local M = {
  summary = "print completion for a shell",
  usage = "perigee completion bash|zsh|fish",
  about = [[
Prints what makes a shell complete perigee's commands, flags and their values. Installing Perigee puts it
where the shells look; without that, it goes into the shell's own configuration.]],
  examples = {
    "source <(perigee completion bash)",
    "perigee completion zsh > ~/.zfunc/_perigee",
    "perigee completion fish > ~/.config/fish/completions/perigee.fish",
  },
  completes = "shell",
  run = function(args)
    local cli = require("perigee.cli")
    local parsed, code = cli.read("completion", args, 1)
    if not parsed then return code end
    local shell = parsed.words[1]
    if not shell then return cli.usage_error("completion", "a shell is needed: bash, zsh or fish") end
    if not writers[shell] then
      return cli.usage_error("completion",
        ("there is none for '%s'%s; there is for bash, zsh and fish"):format(shell, spelling.hint(shell, SHELLS)))
    end
    io.stdout:write(writers[shell]())
    return 0
  end,
}

return M

--- Texts of files that people write, as their editors show them.
local M = {}

--- Without the mark of byte order that some editors put in front of UTF-8.
---@param text string
---@return string
function M.text(text)
  return text:sub(1, 3) == "\xEF\xBB\xBF" and text:sub(4) or text
end

--- The function that a Lua file is. As in Lua a first line that begins with '#' is none of its code.
---@param text string
---@param name string of the chunk, "@" and a path
---@param env? table its globals, if they are not Lua's own
---@return function?
---@return string? err
function M.load(text, name, env)
  local code = M.text(text):gsub("^#[^\n]*", "")
  if env then return load(code, name, "t", env) end
  return load(code, name, "t")
end

return M

--- What a terminal is: colours on one, none in a file or a pipe, or when NO_COLOR is set.
local uv = require("luv")

local M = {}

--- May output to this descriptor have colours?
---@param fd integer 1 or 2
---@return boolean
function M.has_colours(fd)
  local no_color = os.getenv("NO_COLOR")
  return uv.guess_handle(fd) == "tty" and (no_color == nil or no_color == "") and os.getenv("TERM") ~= "dumb"
end

local codes = { red = "31", green = "32", dim = "2", bold = "1" }

---@param text string
---@param colour "red"|"green"|"dim"|"bold"
---@param is_coloured boolean
---@return string
function M.paint(text, colour, is_coloured)
  return is_coloured and ("\27[%sm%s\27[0m"):format(codes[colour], text) or text
end

return M

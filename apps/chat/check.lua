--- What clients may send as a name or a text. Both functions return it tidied up, or raise the error
--- that the client gets.
local perigee = require "perigee"

local M = {
  MAX_NAME = 24, -- in characters: "日本" are two of them, and six bytes
  MAX_TEXT = 2000,
}

-- What could make two names look alike, a name look empty, or turn the text after it around: control
-- characters, unusual spaces, marks of no width.
local invisible = {
  { 0x00, 0x1F }, { 0x7F, 0xA0 }, { 0xAD, 0xAD }, { 0x2000, 0x200F }, { 0x2028, 0x202F },
  { 0x2060, 0x206F }, { 0x3000, 0x3000 }, { 0xFEFF, 0xFEFF },
}

local function has_invisible(text)
  for _, char in utf8.codes(text) do
    for _, range in ipairs(invisible) do
      if char >= range[1] and char <= range[2] then return true end
    end
  end
  return false
end

local function refuse(param, expected)
  error(perigee.error {
    code = perigee.errors.invalid_params,
    message = ("A %s must be %s"):format(param, expected),
    data = { param = param, expected = expected },
  })
end

--- Text without the spaces around it, which has to have 1 to `max` characters.
local function tidy(param, text, max)
  local expected = ("1 to %d characters long"):format(max)
  -- A character has at most four bytes: what is far too long is not even looked at.
  if #text > 4 * max then refuse(param, expected) end
  text = text:match("%S.*%S") or text:match("%S")
  if not text or utf8.len(text) > max then refuse(param, expected) end
  return text
end

function M.name(name)
  name = tidy("name", name, M.MAX_NAME)
  if has_invisible(name) then refuse("name", "made of characters that can be seen") end
  return (name:gsub("%s+", " "))
end

function M.text(text)
  text = tidy("text", text, M.MAX_TEXT):gsub("\r\n?", "\n")
  if text:find("[^\t\n\x20-\x7E\x80-\xFF]") then refuse("text", "free of control characters") end
  return text
end

return M

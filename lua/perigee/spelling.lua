--- The known word that somebody probably meant.
local M = {}

--- Edits (insert, delete, replace, swap of neighbours) between two words, or `most + 1` when there
--- are more than `most`.
---@param a string
---@param b string
---@param most integer
---@return integer
local function distance(a, b, most)
  if math.abs(#a - #b) > most then return most + 1 end
  local before, previous, current = {}, {}, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    current[0] = i
    local best = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local d = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      current[j] = d
      best = math.min(best, d)
    end
    if best > most then return most + 1 end
    before, previous, current = previous, current, before
  end
  return previous[#b]
end

--- The nearest of the known words, or nil when none is near.
---@param word string
---@param known string[]
---@return string?
function M.nearest(word, known)
  local most = #word <= 4 and 1 or #word <= 8 and 2 or 3
  local found, least
  for _, candidate in ipairs(known) do
    local d = distance(word:lower(), candidate:lower(), most)
    if d <= most and (not least or d < least or (d == least and candidate < found)) then
      found, least = candidate, d
    end
  end
  return found
end

--- " (did you mean 'x'?)", or "" when no known word is near: to append to a message.
---@param word any
---@param known string[]
---@return string
function M.hint(word, known)
  local nearest = type(word) == "string" and M.nearest(word, known)
  return nearest and (" (did you mean '%s'?)"):format(nearest) or ""
end

--- The keys of a table, sorted: for hints and lists.
---@param t table<string, any>
---@return string[]
function M.keys(t)
  local keys = {}
  for key in pairs(t) do
    if type(key) == "string" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

return M

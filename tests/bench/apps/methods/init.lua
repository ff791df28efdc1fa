--- One method among ten, and among a thousand.
local perigee = require "perigee"

local function with_methods(path, n)
  local C = perigee.consumer { path = path }
  for i = 1, n - 1 do C:rpc_method("method." .. i, function() end) end
  C:rpc_method("echo", function(_, value) return value end)
  return C
end

return { with_methods("/methods/10", 10), with_methods("/methods/1000", 1000) }

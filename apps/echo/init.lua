--- The smallest app: says back what it hears. As JSON-RPC on /echo, frame by frame on /echo/raw.
local perigee = require "perigee"

local Echo = perigee.consumer {}

Echo:rpc_method("echo", { doc = "Returns its argument." }, function(_, value)
  return value
end)

Echo:rpc_method("reverse", {
  doc = "Returns the text backwards.",
  params = { { "text", "string" } }, -- a client that sends something else gets an error
}, function(_, text)
  local chars = {} -- text:reverse() would turn the bytes around, and tear characters apart
  for char in text:gmatch(utf8.charpattern) do chars[#chars + 1] = char end
  for i = 1, #chars // 2 do
    local j = #chars + 1 - i
    chars[i], chars[j] = chars[j], chars[i]
  end
  return table.concat(chars)
end)

Echo:rpc_method("later", { doc = "Returns its argument after a second." }, function(_, value)
  perigee.sleep(1) -- only this call waits; everything else goes on
  return value
end)

-- Without JSON-RPC: every frame goes to receive.
local Raw = perigee.consumer { path = "/echo/raw", raw = true }

function Raw:receive(data, is_binary)
  self:send(data, is_binary)
end

return { Echo, Raw }

--- Frames that are not JSON-RPC.
local perigee = require "perigee"

--- Speaks JSON-RPC, and takes what is none as well.
local Both = perigee.consumer {}

function Both:receive(data, is_binary)
  self:send(is_binary and data:reverse() or ("you said: " .. data), is_binary)
end

Both:rpc_method("ping", function() return "pong" end)

--- Says everything back as it came.
local Raw = perigee.consumer { path = "/frames/raw", raw = true, limits = { message = 100000, calls = 4 } }

function Raw:receive(data, is_binary)
  if data == "bye" then self:close(4000, "as you wish")
  elseif data == "fail" then error("as you wish")
  elseif data == "wait" then perigee.sleep(0.05)
  end
  self:send(data, is_binary)
end

return { Both, Raw }

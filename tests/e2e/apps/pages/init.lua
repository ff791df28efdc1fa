--- An app with a page: its public folder is served below its path.
local perigee = require "perigee"

local Pages = perigee.consumer { path = "/pages" }
Pages:rpc_method("ping", function() return "pong" end)

return Pages

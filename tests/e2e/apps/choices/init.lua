--- What a consumer may choose for all its methods.
local perigee = require "perigee"

--- One call after the other.
local Ordered = perigee.consumer { path = "/choices/ordered", strict_ordering = true }

Ordered:rpc_method("sleep", function(_, seconds, value)
  perigee.sleep(seconds)
  return value
end)
Ordered:rpc_method("ping", function() return "pong" end)

--- Values that JSON has no form for.
local Odd = perigee.consumer {
  path = "/choices/odd",
  json_default = function(value) return "a " .. type(value) end,
}

Odd:rpc_method("odd", function() return { f = print, list = { io.stderr, 1 } } end)
Odd:rpc_method("fine", function() return { 1, "two", perigee.null } end)

--- A codec of its own: here one that writes every number as a string.
local Own = perigee.consumer {
  path = "/choices/own",
  codec = {
    encode = function(value) return perigee.json.encode(type(value) == "number" and tostring(value) or value) end,
    decode = perigee.json.decode,
  },
}

Own:rpc_method("number", function(_, value) return value end)

return { Ordered, Odd, Own }

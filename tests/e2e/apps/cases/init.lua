--- The methods that jsonrpc_cases.json assumes, on two paths: with every answer as HTTP 200, and with
--- HTTP statuses made from error codes.
local perigee = require "perigee"

---@param path string
---@param http_status "ok"|"mapped"
local function declare(path, http_status)
  local Cases = perigee.consumer {
    path = path,
    http_status = http_status,
    origins = { "http://allowed.example" },
  }

  Cases:rpc_method("ping", function() return "pong" end)
  Cases:rpc_method("echo", function(_, value) return value end)
  Cases:rpc_method("subtract", function(_, minuend, subtrahend) return minuend - subtrahend end)
  Cases:rpc_method("get_data", function() return { "hello", 5 } end)
  Cases:rpc_method("fail", function() error("fake_error") end)
  Cases:rpc_method("sum", function(_, ...)
    local total = 0
    for i = 1, select("#", ...) do total = total + select(i, ...) end
    return total
  end)

  Cases:rpc_method("ws_only", { http = false }, function() return "ws" end)
  Cases:rpc_method("http_only", { websocket = false }, function() return "http" end)

  Cases:rpc_method("session_set", function(ctx, key, value)
    ctx.session[key] = value
    return true
  end)
  Cases:rpc_method("session_get", function(ctx, key) return ctx.session[key] end)

  Cases:rpc_notification("update", function() end)
  Cases:rpc_notification("notify_sum", function() end)
  Cases:rpc_notification("notify_hello", function(_, n) return n + 1 end) -- fails without n: nobody hears

  return Cases
end

return { declare("/cases", "ok"), declare("/cases/mapped", "mapped") }

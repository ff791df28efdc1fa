--- Waiting, timers and work beside a call.
local perigee = require "perigee"

local Timers = perigee.consumer {}

Timers:rpc_method("ping", function() return "pong" end)

Timers:rpc_method("sleep", function(_, seconds, value)
  perigee.sleep(seconds)
  return value
end)

--- Answers first, notifies afterwards.
Timers:rpc_method("spawn", function(ctx, word)
  ctx:spawn(function(with) ctx:notify("spawned", { with }) end, word)
  return "answered"
end)

--- Timers of different lengths come in the order of their lengths.
Timers:rpc_method("after", function(ctx, ...)
  for _, seconds in ipairs { ... } do
    perigee.after(seconds, function() ctx:notify("after", { seconds }) end)
  end
  return true
end)

--- One of two timers is cancelled; the later one tells.
Timers:rpc_method("cancelled", function(ctx)
  local timer = perigee.after(0.01, function() ctx:notify("must not come") end)
  perigee.after(0.05, function() ctx:notify("comes") end)
  timer:cancel()
  timer:cancel()
  return true
end)

--- Ticks `n` times; the second tick fails.
Timers:rpc_method("every", function(ctx, seconds, n)
  local count, timer = 0, nil
  timer = perigee.every(seconds, function()
    count = count + 1
    if count == n then timer:cancel() end
    if count == 2 then error("the second tick fails") end
    ctx:notify("tick", { count })
  end)
  return true
end)

--- Waits for several at once, and says how long all took, measured in the time of one.
Timers:rpc_method("all", function(_, n, seconds)
  local fns = {}
  for i = 1, n do
    fns[i] = function()
      perigee.sleep(seconds)
      return i, i * i
    end
  end
  local before = perigee.now()
  local results, squares = perigee.all(fns), {}
  for i, result in ipairs(results) do squares[i] = result[2] end
  return { squares = squares, times = (perigee.now() - before) / seconds }
end)

Timers:rpc_method("all_with_error", function()
  local ended = false
  local ok, err = pcall(perigee.all, {
    function() error(perigee.error { code = 7, message = "one of them failed" }) end,
    function()
      perigee.sleep(0.02)
      ended = true
    end,
  })
  return { ok = ok, message = err.message, waited_for_the_other = ended }
end)

Timers:rpc_method("await_timeout", function()
  local value, err = perigee.await(function() end, 0.02)
  return { value = value == nil, err = err }
end)

--- done is called before anybody waits, and again afterwards: the first one counts.
Timers:rpc_method("await_early", function()
  local late
  local a, b = perigee.await(function(done)
    done("first", 2)
    done("second", 3)
    late = done
  end)
  late("third", 4)
  return { a, b }
end)

--- A coroutine of the app's own may wait, too, and yields to its own resumer meanwhile as ever.
Timers:rpc_method("own_coroutine", function()
  local words = coroutine.wrap(function()
    coroutine.yield("before")
    perigee.sleep(0.01)
    coroutine.yield("after")
  end)
  return { words(), words() }
end)

return Timers

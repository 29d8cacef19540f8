-- Each fid of the file that FIDS names is put once, by one thread, or treated as METHOD says. The
-- body is BODY's bytes, if it names a file; QUERY is what follows the path. With PACE_MS each
-- connection pauses for about that long before a request.
-- A thread that has used up its fids stops and says so: no fid is ever put twice.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  local count = tonumber(os.getenv("THREADS"))
  local body = os.getenv("BODY") or ""
  wrk.method = os.getenv("METHOD") or "PUT"
  if body ~= "" then
    wrk.body = io.open(body, "rb"):read("*a")
  end
  wrk.headers["Content-Type"] = "application/octet-stream"
  paths, next_path, exhausted = {}, 1, 0
  local line, query = 0, os.getenv("QUERY") or ""
  for fid in io.lines(os.getenv("FIDS")) do
    if line % count == number then
      paths[#paths + 1] = "/" .. fid .. query
    end
    line = line + 1
  end
end

function request()
  local path = paths[next_path]
  if path == nil then
    exhausted = 1
    wrk.thread:stop()
    return wrk.format("GET", "/healthz")
  end
  next_path = next_path + 1
  return wrk.format(nil, path)
end

local pace = tonumber(os.getenv("PACE_MS"))
if pace then
  function delay()
    return math.random(0, 2 * pace)
  end
end

function done(summary, latency, requests)
  local used, exhausted = {}, 0
  for number, thread in ipairs(threads) do
    used[number] = thread:get("next_path") - 1
    exhausted = exhausted + thread:get("exhausted")
  end
  write_report(summary, latency,
    string.format(',"exhausted":%d,"used":[%s]', exhausted, table.concat(used, ",")))
end

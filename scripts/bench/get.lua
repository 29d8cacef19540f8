-- Fids of the file that FIDS names are read in random order, each thread with its own sequence. With
-- PACE_MS each connection pauses for about that long before a request.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  math.randomseed(number * 7919)
  paths = {}
  for fid in io.lines(os.getenv("FIDS")) do
    paths[#paths + 1] = "/" .. fid
  end
end

function request()
  return wrk.format("GET", paths[math.random(#paths)])
end

local pace = tonumber(os.getenv("PACE_MS"))
if pace then
  function delay()
    return math.random(0, 2 * pace)
  end
end

function done(summary, latency, requests)
  write_report(summary, latency)
end

-- BODY's bytes are uploaded as a form, again and again.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

function init(args)
  local boundary = "----dulse-bench"
  local data = io.open(os.getenv("BODY"), "rb"):read("*a")
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
  wrk.body = "--" .. boundary .. "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"needle\"\r\n"
    .. "Content-Type: application/octet-stream\r\n\r\n" .. data .. "\r\n--" .. boundary .. "--\r\n"
  request_once = wrk.format(nil, "/submit")
end

function request()
  return request_once
end

function done(summary, latency, requests)
  write_report(summary, latency)
end

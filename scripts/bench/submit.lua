-- BODY's bytes are uploaded as a form, again and again.

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
  local errors = summary.errors
  io.open(os.getenv("REPORT"), "w"):write(string.format(
    '{"requests":%d,"seconds":%f,"bytes":%d,"p50_ms":%f,"p99_ms":%f,"errors":%d,"bad_status":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end

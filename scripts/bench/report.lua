-- What a run of wrk came to, as JSON into the file that REPORT names. `more` is what a script counts
-- besides, as further members of the object.

function write_report(summary, latency, more)
  local errors = summary.errors
  io.open(os.getenv("REPORT"), "w"):write(string.format(
    '{"requests":%d,"seconds":%f,"bytes":%d,"p50_ms":%f,"p99_ms":%f,"errors":%d,"bad_status":%d%s}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status, more or ""))
end

//! The client library: assign, upload, read, delete, look up.

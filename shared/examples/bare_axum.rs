//! The least that a server on axum can do: 1 kB from memory for every GET.
//!
//! It is what the processor time of a read is measured against. It says on stdout where it listens.

use std::{
    error::Error,
    io::{Write, stdout},
};

use axum::{Router, http::header, routing::get};
use bytes::Bytes;
use tokio::net::TcpListener;

const ANSWER: &[u8] = &[b'x'; 1024];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let answer = || async {
        ([(header::CONTENT_TYPE, "application/octet-stream")], Bytes::from_static(ANSWER))
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(stdout(), "{}", listener.local_addr()?)?;
    axum::serve(listener, Router::new().fallback(get(answer))).await?;
    Ok(())
}

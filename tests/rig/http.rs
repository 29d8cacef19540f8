//! Requests from within a member's namespace, each of which ends in one of three ways.
//!
//! The sockets are opened by the one thread of a runtime of its own, which has entered the
//! namespace; whoever asks stays where it is, and waits.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, Method, redirect::Policy};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::network::enter;

/// A client that is not answered by then gives up. Longer than an election, so that a request to a
/// stopped leader may still be under way when another one leads.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What came of a request.
#[derive(Debug)]
pub enum Reply {
    /// A server answered.
    Answer(Answer),
    /// No connection could be made, so no server has seen it.
    NotSent(String),
    /// It was sent, or may have been, and no whole answer came.
    Lost(String),
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header `Location`.
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends requests from one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    runtime: Arc<Runtime>,
    client: Client,
}

impl Http {
    /// Sends from the namespace of this file.
    pub fn inside(namespace_file: PathBuf) -> Self {
        let entered = Arc::new(OnceLock::new());
        let result = Arc::clone(&entered);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || {
                // A thread that did not get in must not pass for one that did.
                if let Err(error) = enter(&namespace_file) {
                    let _ = result.set(error.to_string());
                }
            })
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(runtime.spawn(async {})).unwrap();
        assert_eq!(entered.get(), None, "the client's namespace cannot be entered");
        let builder = Client::builder().redirect(Policy::none()).timeout(TIMEOUT).no_proxy();
        Self { runtime: Arc::new(runtime), client: builder.build().unwrap() }
    }

    /// A request without a body.
    pub fn get(&self, url: &str) -> Reply {
        self.send(Method::GET, url, Vec::new())
    }

    /// A request, waited for.
    pub fn send(&self, method: Method, url: &str, body: Vec<u8>) -> Reply {
        let request = self.client.request(method, url).body(body);
        let exchange = self.runtime.spawn(async {
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) if error.is_connect() => return Reply::NotSent(chain(&error)),
                Err(error) => return Reply::Lost(chain(&error)),
            };
            let status = response.status().as_u16();
            let location = response.headers().get("location");
            let location = location.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
            match response.bytes().await {
                Ok(body) => Reply::Answer(Answer { status, location, body: body.to_vec() }),
                Err(error) => Reply::Lost(chain(&error)),
            }
        });
        self.runtime.block_on(exchange).unwrap()
    }

    /// The JSON of an answer with status 200, if that is what comes.
    pub fn json(&self, url: &str) -> Option<Value> {
        match self.get(url) {
            Reply::Answer(answer) if answer.status == 200 => Some(answer.json()),
            _ => None,
        }
    }
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The stable word of an error.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and sentence, for people.
    pub fn sentence(&self) -> String {
        let text = self.json()["error"].as_str().unwrap_or_default().to_owned();
        format!("{} {text}", self.status)
    }
}

/// An error with its sources: the first sentence alone says only that a request failed.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

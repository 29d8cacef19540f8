//! Requests as any client sends them: one connection each, nothing followed, nothing decoded.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::OnceLock,
    time::Duration,
};

use reqwest::{Client, Method, header::HeaderMap, redirect::Policy};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Long enough for a growth of volumes on a busy machine; a request that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// Asserts an error of this status and stable code; gives its sentence.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        let sentence = body["error"].as_str().unwrap_or_default().to_owned();
        assert!(sentence.contains(' '), "no sentence in {body}");
        let content_type = self.header("content-type").unwrap_or_default();
        assert!(content_type.starts_with("application/json"), "{content_type}");
        sentence
    }
}

/// A GET.
#[track_caller]
pub(crate) fn get(url: &str) -> Answer {
    send(Method::GET, url, &[], Vec::new())
}

/// A GET of a fid that asks a master, as any client may that knows nothing else.
#[track_caller]
pub(crate) fn get_by_way_of(master_url: &str, fid: &str) -> Answer {
    let redirect = get(&format!("{master_url}/{fid}"));
    assert_eq!(redirect.status, 307, "{fid}: {}", redirect.text());
    get(&redirect.header("location").unwrap())
}

/// A request that must be answered.
#[track_caller]
pub(crate) fn send(method: Method, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let what = format!("{method} {url}");
    attempt(method, url, headers, body).unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

/// A request that may fail to be answered.
pub(crate) fn attempt(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Answer, reqwest::Error> {
    let mut request = client().request(method, url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    runtime().block_on(async {
        let response = request.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    })
}

/// Bytes to `http://host:port` as they are, then the end of what is sent; everything that comes
/// back. A server may answer and close before it has read all.
pub(crate) fn raw(url: &str, pieces: impl IntoIterator<Item = Vec<u8>>) -> String {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    for piece in pieces {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    // A reset after the answer is the server's way to say that it reads no further.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // A pooled connection would outlive the server that a test kills.
        let builder = Client::builder().pool_max_idle_per_host(0).redirect(Policy::none());
        builder.timeout(TIMEOUT).no_proxy().build().unwrap()
    })
}

/// What requests run on, and servers that a test starts in this process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

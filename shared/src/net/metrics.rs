//! Metrics in Prometheus' text format: one registry a process, and the request histograms that
//! every listener keeps.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

/// The process' metrics, all named `dulse_…`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

/// Upper bounds, in seconds, of the buckets of every latency histogram.
pub const LATENCY_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("dulse"))) }
    }
}

impl Metrics {
    /// Adds metrics to the registry.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All metrics as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    /// The answer to `GET /metrics`.
    pub fn response(&self) -> Response {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], self.encode()).into_response()
    }
}

type RequestLabels = [(&'static str, String); 3];

/// Time from a request's head to its response's head, by listener, verb and status.
///
/// The histograms of the usual statuses are looked up once, so that a request costs no lookup.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    listener: &'static str,
    family: Family<RequestLabels, Histogram>,
    usual: Arc<[[Histogram; USUAL_STATUSES.len()]; USUAL_VERBS.len()]>,
}

const USUAL_VERBS: [Method; 4] = [Method::GET, Method::HEAD, Method::PUT, Method::POST];
const USUAL_STATUSES: [u16; 4] = [200, 201, 206, 404];

impl RequestMetrics {
    /// Registers the histograms of one listener, such as `volume` or `master_cluster`.
    pub fn register(metrics: &Metrics, listener: &'static str) -> Self {
        let family: Family<RequestLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS));
        metrics.register(|registry| {
            registry.sub_registry_with_prefix(listener).register(
                "request_seconds",
                "Time from a request's head to its response's head",
                family.clone(),
            );
        });
        let usual = USUAL_VERBS.map(|verb| {
            USUAL_STATUSES
                .map(|status| family.get_or_create(&labels(listener, &verb, status)).clone())
        });
        Self { listener, family, usual: Arc::new(usual) }
    }

    /// Counts one request.
    pub fn observe(&self, verb: &Method, status: StatusCode, seconds: f64) {
        let verb_index = USUAL_VERBS.iter().position(|usual| usual == verb);
        let status_index = USUAL_STATUSES.iter().position(|usual| *usual == status.as_u16());
        if let (Some(verb), Some(status)) = (verb_index, status_index) {
            self.usual[verb][status].observe(seconds);
            return;
        }
        let labels = labels(self.listener, verb, status.as_u16());
        self.family.get_or_create(&labels).observe(seconds);
    }
}

fn labels(listener: &'static str, verb: &Method, status: u16) -> RequestLabels {
    // A verb is the caller's text: only known ones become labels, so that their number is bounded.
    let known = [Method::DELETE, Method::OPTIONS].iter().chain(&USUAL_VERBS).any(|k| k == verb);
    let verb = if known { verb.as_str() } else { "other" };
    [("listener", listener.to_owned()), ("verb", verb.to_owned()), ("code", status.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_verb_and_code() {
        let metrics = Metrics::default();
        let requests = RequestMetrics::register(&metrics, "volume");
        requests.observe(&Method::GET, StatusCode::OK, 0.001);
        requests.observe(&Method::from_bytes(b"WEIRD").unwrap(), StatusCode::BAD_REQUEST, 0.1);
        let text = metrics.encode();
        let counted = |verb: &str, code: &str| {
            format!(
                "dulse_volume_request_seconds_count{{listener=\"volume\",verb=\"{verb}\",code=\"{code}\"}} 1"
            )
        };
        assert!(text.contains(&counted("GET", "200")), "{text}");
        assert!(text.contains(&counted("other", "400")), "{text}");
    }
}

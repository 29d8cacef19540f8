//! What is not a needle: status, health, metrics, and the page that people look at.
//!
//! Pages only read. They load nothing from other hosts, run nothing, and escape all they show.
//! Numbers come from the store at the time of the request; nothing is kept.

use askama::Template;
use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use dulse_shared::{
    id::{ClusterId, Collection, VolumeId},
    size::ByteSize,
    wire::{
        Code, DirReport, JobProgress, LocalState, Problem, ReadOnlyReason, UnservedVolume,
        VolumeConfig, VolumeReport, VolumeState,
    },
};
use serde::Serialize;

use super::{state::HttpState, status};
use crate::store::{Contradiction, Foreign};

const STYLE: &str = include_str!("../../templates/style.css");
/// Pages load nothing from elsewhere and run nothing.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'self'");

/// A page of this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Page {
    /// Volumes and disks, for people.
    Overview,
    /// Its style sheet.
    Style,
    /// The same for programs.
    OverviewJson,
    /// Volumes and disks in the form that clients know.
    Status,
    /// Whether the process is alive.
    Health,
    /// Whether it can serve.
    Ready,
    /// Metrics.
    Metrics,
    /// Asked for by browsers.
    Icon,
}

/// The page at a path; `None` for what may be a needle.
pub(super) fn find(path: &str) -> Option<Page> {
    // Volume numbers start with a digit: the usual path is none of these.
    if path.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    Some(match path {
        "/" | "/ui" | "/ui/" | "/ui/index.html" => Page::Overview,
        "/ui/style.css" => Page::Style,
        "/ui/status.json" => Page::OverviewJson,
        "/status" => Page::Status,
        "/healthz" => Page::Health,
        "/readyz" => Page::Ready,
        "/metrics" => Page::Metrics,
        "/favicon.ico" => Page::Icon,
        _ => return None,
    })
}

/// Answers with a page. HEAD is answered as GET; the body is left out on the way.
pub(super) fn answer(state: &HttpState, request: &Parts, page: Page) -> Result<Response, Problem> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let text = format!("{} is only read: use GET", request.uri.path());
        let mut response = Problem::new(Code::MethodNotAllowed, text).into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    match page {
        Page::Overview => overview(state),
        Page::Style => {
            Ok(([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response())
        }
        Page::OverviewJson => Ok(Json(Overview::of(state)).into_response()),
        Page::Status => {
            let settings = &state.settings;
            Ok(Json(status::status(&settings.store, &settings.maintenance)).into_response())
        }
        Page::Health => Ok(StatusCode::OK.into_response()),
        Page::Ready => ready(state),
        Page::Metrics => Ok(state.settings.metrics.response()),
        Page::Icon => Err(Problem::new(Code::NoRoute, "there is no icon")),
    }
}

fn ready(state: &HttpState) -> Result<Response, Problem> {
    if state.settings.tasks.is_stopping() {
        return Err(Problem::new(Code::NotReady, "the server is stopping"));
    }
    if state.settings.store.cluster().is_none() {
        let text = "no master has answered yet: check --master and that it runs";
        return Err(Problem::new(Code::NotReady, text));
    }
    Ok(StatusCode::OK.into_response())
}

/// What the page shows, as JSON.
#[derive(Debug, Serialize)]
struct Overview {
    version: &'static str,
    url: String,
    cluster: Option<ClusterId>,
    masters: Vec<String>,
    uptime_secs: u64,
    volume_size_limit_bytes: u64,
    dirs: Vec<DirReport>,
    volumes: Vec<VolumeLine>,
    /// What is being done in the background.
    jobs: Vec<JobProgress>,
    /// Seconds since 1970, on the server's clock.
    now_secs: u64,
    unserved: Vec<UnservedVolume>,
    foreign: Vec<ForeignLine>,
    /// Reports that a master contradicts.
    contradictions: Vec<Contradiction>,
}

/// A volume of another program that is not served yet.
#[derive(Debug, Serialize)]
struct ForeignLine {
    id: VolumeId,
    collection: Collection,
    /// How far it is on its way, or why it stays out.
    state: String,
}

/// A volume, and whether and why it takes no writes.
#[derive(Debug, Serialize)]
struct VolumeLine {
    #[serde(flatten)]
    report: VolumeReport,
    /// Bytes of the file that belong to no needle.
    overhead_bytes: u64,
    state: &'static str,
    /// When all of it was last read from the disk, in seconds since 1970; 0 if it never was.
    last_scrub_secs: u64,
    /// Records that did not verify then.
    scrub_findings: u64,
}

impl Overview {
    fn of(state: &HttpState) -> Self {
        let settings = &state.settings;
        let volumes = settings.store.volumes();
        let lines = volumes.iter().map(|volume| {
            let report = volume.report();
            let state = state_in_words(&report, &volume.config());
            let (last_scrub_secs, scrub_findings) = volume.scrubbed().last();
            let overhead_bytes = report.overhead_bytes();
            VolumeLine { report, overhead_bytes, state, last_scrub_secs, scrub_findings }
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            url: settings.url.clone(),
            cluster: settings.store.cluster(),
            masters: settings.masters.iter().map(|master| master.public()).collect(),
            uptime_secs: settings.clock.since(state.started).as_secs(),
            volume_size_limit_bytes: settings.store.volume_size_limit_bytes(),
            dirs: settings.store.dirs(),
            volumes: lines.collect(),
            jobs: settings.maintenance.running(),
            now_secs: settings.clock.wall_secs(),
            unserved: settings.store.unserved(),
            foreign: settings.store.foreign().into_iter().map(ForeignLine::of).collect(),
            contradictions: settings.store.contradictions(),
        }
    }
}

impl ForeignLine {
    fn of(foreign: Foreign) -> Self {
        let Foreign { volume, standing } = foreign;
        let state = standing.in_words().to_owned();
        Self { id: volume.id, collection: volume.collection, state }
    }
}

/// Whether a volume takes new needles, and why not.
pub(super) fn state_in_words(report: &VolumeReport, config: &VolumeConfig) -> &'static str {
    match (report.local, config.state) {
        (LocalState::Duplicate, _) => "read-only: the server has another file with its id",
        (LocalState::Damaged, _) => "read-only: a part of the file does not verify",
        (LocalState::Failed, _) => "read-only: the disk failed",
        (LocalState::Expired, _) => "read-only: expired, about to be deleted",
        (LocalState::Full, _) => "read-only: full",
        (LocalState::OldFormat, _) => "read-only: an old format",
        (_, VolumeState::ReadOnly { reason: ReadOnlyReason::MissingCopies }) => {
            "read-only: copies are missing"
        }
        (_, VolumeState::ReadOnly { reason: ReadOnlyReason::Resolving }) => {
            "read-only: its last writes are being resolved"
        }
        (_, VolumeState::Repairing { .. }) => "read-only: a copy is being made",
        (LocalState::Corrupt, _) => "closed: needles in it do not verify",
        (LocalState::LowSpace, _) => "the disk is short of room",
        (LocalState::Ready, VolumeState::Writable) if config.closed => {
            "closed: it came from elsewhere"
        }
        (LocalState::Ready, VolumeState::Writable) => "writable",
    }
}

/// The page.
#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    overview: Overview,
}

impl OverviewPage {
    fn size(bytes: &u64) -> String {
        ByteSize(*bytes).to_string()
    }

    fn percent_used(dir: &DirReport) -> u64 {
        let used = dir.total_bytes.saturating_sub(dir.free_bytes);
        used.saturating_mul(100).checked_div(dir.total_bytes).unwrap_or(0)
    }

    fn uptime(&self) -> String {
        in_words(self.overview.uptime_secs)
    }

    /// How long ago a moment was, in seconds since 1970.
    fn ago(&self, secs: &u64) -> String {
        match secs {
            0 => "never".to_owned(),
            secs => format!("{} ago", in_words(self.overview.now_secs.saturating_sub(*secs))),
        }
    }

    fn percent_done(job: &JobProgress) -> u64 {
        job.done_bytes.saturating_mul(100).checked_div(job.total_bytes).unwrap_or(0)
    }

    fn cluster(&self) -> String {
        self.overview.cluster.map_or("none yet".to_owned(), |cluster| cluster.to_string())
    }
}

/// A length of time.
fn in_words(secs: u64) -> String {
    let minutes = secs / 60;
    match (minutes / (24 * 60), minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn overview(state: &HttpState) -> Result<Response, Problem> {
    let page = OverviewPage { overview: Overview::of(state) };
    let html = page.render().map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    Ok((headers, html).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_their_paths_and_needles_theirs() {
        assert_eq!(find("/"), Some(Page::Overview));
        assert_eq!(find("/status"), Some(Page::Status));
        for path in ["/3,01637037d6", "/3/01637037d6/status", "/status/x", "", "/x"] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn a_page_shows_disks_and_volumes_and_escapes_what_it_shows() {
        let overview = Overview {
            version: "1.2.3",
            url: "<script>".to_owned(),
            cluster: None,
            masters: vec!["m1:9333".to_owned()],
            uptime_secs: 90_061,
            volume_size_limit_bytes: 30 << 30,
            dirs: vec![DirReport {
                dir: "/data".to_owned(),
                disk: dulse_shared::wire::DiskType::default(),
                max_volumes: 8,
                volumes: 1,
                total_bytes: 100 << 30,
                free_bytes: 75 << 30,
                min_free_bytes: 1 << 30,
                is_low: false,
                trouble: None,
            }],
            volumes: Vec::new(),
            contradictions: vec![Contradiction {
                volume: VolumeId::new(9).unwrap(),
                master: "m1:9333".to_owned(),
                reason: "volume 9 is not ours".to_owned(),
            }],
            jobs: vec![JobProgress {
                kind: dulse_shared::wire::JobKind::Scrub,
                volume: VolumeId::new(7).unwrap(),
                done_bytes: 3 << 30,
                total_bytes: 4 << 30,
                started_at_secs: 1000,
                is_asked_for: false,
            }],
            now_secs: 1600,
            unserved: vec![UnservedVolume {
                id: VolumeId::new(77).unwrap(),
                collection: Collection::default(),
                reason: "77.dat is missing".to_owned(),
            }],
            foreign: vec![ForeignLine {
                id: VolumeId::new(78).unwrap(),
                collection: Collection::default(),
                state: "its files are being read".to_owned(),
            }],
        };
        let html = OverviewPage { overview }.render().unwrap();
        for shown in [
            "scrub of volume 7",
            "75 %",
            "10 min ago",
            "1.2.3",
            "m1:9333",
            "/data",
            "25",
            "75GB",
            "1 of 8",
            "<td class=\"number\">1GB</td>",
            "1 d 1 h",
            "none yet",
            "77.dat is missing",
            "volume 78: its files are being read",
            "volume 9 is not ours (says m1:9333)",
        ] {
            assert!(html.contains(shown), "{shown} in {html}");
        }
        assert!(!html.contains("<script>"));
    }
}

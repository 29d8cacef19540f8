//! Requests that are held until something changes.
//!
//! Each costs a connection and little else. Their number is bounded below that of connections, so
//! that there are always some left for who does not wait. When something changes all of them are
//! to be answered: each at a random moment within a fifth of a second, so that they do not stand in
//! line, nor come back all at once.

use std::{sync::Arc, time::Duration};

use dulse_shared::{
    net::tasks::Tasks,
    wire::{Code, Problem},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::params::{Params, bad_request};

/// A port serves 20,000 connections.
const MAX_WAITERS: usize = 15_000;
/// How long a request is held: shorter than what proxies and clients mostly allow.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Within this time after a change those who wait for it are answered.
const SPREAD: Duration = Duration::from_millis(200);

/// Who waits. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Waiters {
    places: Arc<Semaphore>,
    tasks: Tasks,
}

impl Waiters {
    /// Nobody yet. When `tasks` stop nobody waits any longer.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_WAITERS)), tasks }
    }

    /// Waits until `is_due` says so of what `subject` has, for as long as the request allows.
    pub(super) async fn wait<T>(
        &self,
        params: &Params,
        subject: &mut watch::Receiver<T>,
        is_due: impl Fn(&T) -> bool,
    ) -> Result<(), Problem> {
        let limit = wait_limit(params)?;
        if is_due(&subject.borrow_and_update()) || limit.is_zero() {
            return Ok(());
        }
        let _place = self.place()?;
        let until = Instant::now() + limit;
        let has_changed = tokio::select! {
            changed = subject.wait_for(|subject| is_due(subject)) => changed.is_ok(),
            () = tokio::time::sleep_until(until) => false,
            () = self.tasks.stopped() => false,
        };
        if has_changed {
            let pause = SPREAD.mul_f64(rand::random());
            tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
        }
        Ok(())
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            let message = format!(
                "{MAX_WAITERS} requests wait here for a change already: ask again in a moment, or \
                 another master"
            );
            Problem::new(Code::Overloaded, message)
        })
    }
}

/// `wait`, in seconds.
fn wait_limit(params: &Params) -> Result<Duration, Problem> {
    let Some(text) = params.value("wait") else {
        return Ok(MAX_WAIT);
    };
    let seconds = text.parse().ok().and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    let seconds = seconds.filter(|wait| *wait <= MAX_WAIT);
    seconds.ok_or_else(|| {
        let most = MAX_WAIT.as_secs();
        bad_request(format!("wait={text} is no time to wait: pass 0 to {most} seconds"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::from_query(Some(query))
    }

    #[test]
    fn a_request_waits_as_long_as_it_says_and_thirty_seconds_at_most() {
        assert_eq!(wait_limit(&params("")).unwrap(), MAX_WAIT);
        assert_eq!(wait_limit(&params("wait=0.5")).unwrap(), Duration::from_millis(500));
        for bad in ["wait=31", "wait=-1", "wait=x", "wait=NaN", "wait=inf"] {
            assert_eq!(wait_limit(&params(bad)).unwrap_err().code, Code::BadRequest, "{bad}");
        }
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_is_due_by_its_limit_and_by_the_end() {
        let (tasks, number) = (Tasks::new(), watch::Sender::new(1));
        let waiters = Waiters::new(tasks.clone());
        let wait = |query: &'static str| {
            let (waiters, mut subject) = (waiters.clone(), number.subscribe());
            async move {
                let start = Instant::now();
                waiters.wait(&params(query), &mut subject, |n| *n > 2).await.unwrap();
                (*subject.borrow(), start.elapsed())
            }
        };
        let (value, took) = wait("wait=0.2").await;
        assert!(value == 1 && took >= Duration::from_millis(200), "{took:?}");
        let change = async {
            number.send_replace(2);
            tokio::time::sleep(Duration::from_millis(100)).await;
            number.send_replace(3);
        };
        let ((value, took), ()) = tokio::join!(wait(""), change);
        assert_eq!(value, 3);
        assert!(took >= Duration::from_millis(100) && took < MAX_WAIT / 2, "{took:?}");
        assert!(wait("").await.1 < MAX_WAIT / 2, "it is due already");
        number.send_replace(1);
        let stop = async { tasks.stop() };
        let ((value, took), ()) = tokio::join!(wait(""), stop);
        assert!(value == 1 && took < MAX_WAIT / 2, "{took:?}");
    }

    #[tokio::test]
    async fn there_is_a_limit_to_who_waits() {
        let (waiters, number) = (Waiters::new(Tasks::new()), watch::Sender::new(1));
        let places = waiters.places.clone();
        let taken = places.acquire_many(u32::try_from(MAX_WAITERS).unwrap()).await.unwrap();
        let refused = waiters.wait(&params(""), &mut number.subscribe(), |_| false).await;
        assert_eq!(refused.unwrap_err().code, Code::Overloaded);
        waiters.wait(&params("wait=0"), &mut number.subscribe(), |_| false).await.unwrap();
        drop(taken);
        waiters.wait(&params("wait=0.01"), &mut number.subscribe(), |_| false).await.unwrap();
    }
}

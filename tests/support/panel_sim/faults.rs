//! Faults of the simulator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use regex::Regex;

use super::Shared;

/// A rule for faulty answers. Without [`Fault::status`] and [`Fault::dropped`] the request is
/// handled as usual after the delay.
#[derive(Debug, Clone)]
pub struct Fault {
    method: Option<String>,
    path: Regex,
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<Bytes>,
    pub(super) delay: Duration,
    pub(super) held: bool,
    pub(super) dropped: bool,
    times: u32,
    skip: u32,
}

impl Fault {
    /// For requests whose path below `/api/remote` has a match of the regular expression.
    pub fn on(path: &str) -> Self {
        Self {
            method: None,
            path: Regex::new(path).expect("a regular expression"),
            status: None,
            headers: Vec::new(),
            body: None,
            delay: Duration::ZERO,
            held: false,
            dropped: false,
            times: u32::MAX,
            skip: 0,
        }
    }

    /// For requests of this method only.
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Answer with this status, and with the panel's error body if there is no other.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The answer's body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// One more header of the answer.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((HeaderName::from_static(name), value.parse().expect("a header's value")));
        self
    }

    /// Wait before anything else.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Wait until the fault ends, before anything else.
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Close the connection without an answer.
    pub fn dropped(mut self) -> Self {
        self.dropped = true;
        self
    }

    /// Only this many times.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Answer this many requests without the fault first.
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }
}

/// A fault that is active until this is dropped.
#[must_use = "the fault ends when this is dropped"]
pub struct ActiveFault {
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

impl ActiveFault {
    pub(super) fn new(rule: Arc<Rule>, shared: Arc<Shared>) -> Self {
        Self { rule, shared }
    }

    /// Requests that it was applied to.
    pub fn hits(&self) -> u32 {
        self.rule.hits.load(Ordering::SeqCst)
    }
}

impl Drop for ActiveFault {
    fn drop(&mut self) {
        self.shared.lock().faults.retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        self.shared.changed.send_replace(());
    }
}

pub(super) struct Rule {
    pub(super) fault: Fault,
    seen: AtomicU32,
    hits: AtomicU32,
}

impl Rule {
    pub(super) fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { fault, seen: AtomicU32::new(0), hits: AtomicU32::new(0) })
    }

    /// Whether the rule applies to this request; counts it. Called under the lock.
    pub(super) fn take(&self, method: &str, path: &str) -> bool {
        let fault = &self.fault;
        if fault.method.as_deref().is_some_and(|wanted| wanted != method) || !fault.path.is_match(path) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        let applies = seen >= fault.skip && seen - fault.skip < fault.times;
        if applies {
            self.hits.fetch_add(1, Ordering::SeqCst);
        }
        applies
    }
}

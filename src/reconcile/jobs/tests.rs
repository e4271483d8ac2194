//! How jobs end.

use super::*;
use crate::reconcile::bench;
use crate::reconcile::disk_scans::DiskScan;
use crate::reconcile::observed::{JobState, Observed};
use crate::runtime::fake::{Call, Faults};
use crate::runtime::{ErrorKind, RuntimeError};

fn invalid_response() -> PanelError {
    PanelError::InvalidResponse { call: "GET /servers/x/install".into(), detail: "the answer: expected JSON".into() }
}

fn away() -> PanelError {
    PanelError::Unreachable { call: "GET /servers/x/install".into(), cause: "refused".into() }
}

/// Whether a job whose attempts fail in these ways ends with a fatal failure.
fn fails_for_good(failures: Vec<PanelError>) -> bool {
    let (_root, context) = bench::context(None);
    let (id, kind, subject) = (bench::id(1), JobKind::Script, Subject::Install("token".into()));
    for failure in failures {
        let run = context.servers.job_starting(id, kind, &subject);
        end(&context, id, kind, run, Err(failure.into()));
    }
    let observed = context.servers.observed(id, 0, Observed::default());
    matches!(observed.job(kind, &subject).unwrap().state, JobState::Failed { fatal: true, .. })
}

#[tokio::test(start_paused = true)]
async fn invalid_responses_in_a_row_count_as_a_rejection() {
    assert!(!fails_for_good(vec![invalid_response(); 4]));
    assert!(fails_for_good(vec![invalid_response(); 5]));
    let mut interrupted = vec![invalid_response(); 4];
    interrupted.extend([away(), invalid_response()]);
    assert!(!fails_for_good(interrupted), "only in a row");
    assert!(!fails_for_good(vec![away(); 30]), "a panel that does not answer is asked again");
}

#[tokio::test(start_paused = true)]
async fn removals_and_counts_in_the_background_hold_up_no_start() {
    let (_root, context) = bench::context(None);
    let mut permits = Vec::new();
    for scan in [DiskScan::Removal, DiskScan::Watch] {
        while let Some(permit) = context.disk_scans.permit(scan).now_or_never() {
            permits.push(permit);
        }
    }
    for (kind, subject, goes_on) in [
        (JobKind::Usage, Subject::Start("p1".into()), true),
        (JobKind::Permissions, Subject::Start("p1".into()), true),
        (JobKind::Usage, Subject::DiskLimit, false),
        (JobKind::Removal, Subject::Deletion, false),
    ] {
        let job = JobRun { context: context.clone(), server: bench::id(1), subject };
        let ended = implementation(kind).run(&job).now_or_never();
        assert_eq!(ended.is_some(), goes_on, "{kind:?} {}", job.subject);
    }
}

/// An engine that fails each request for a log in this way.
struct NoLogs(ErrorKind);

#[async_trait::async_trait]
impl Faults for NoLogs {
    async fn before(&self, call: Call) -> Result<(), RuntimeError> {
        match call.name {
            "logs" => Err(RuntimeError::new(self.0, call.name, "no")),
            _ => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_the_engine_does_not_keep_is_read_and_one_that_it_does_not_give_is_not() {
    for (kind, is_read) in [(ErrorKind::Unsupported, true), (ErrorKind::Failed, false)] {
        let (_root, mut context, machine) = bench::machine(None);
        bench::reconnect(&mut context, &machine, Arc::new(NoLogs(kind)));
        assert_eq!(close_install_log(&context, bench::id(1), "n1").await.is_ok(), is_read, "{kind:?}");
    }
}

//! Steps as people read them.

use super::*;
use crate::model::{InstallOutcome, Reason, Timestamp, Verb};

/// Each kind of step once.
fn steps() -> Vec<Step> {
    let container = || "0123456789abcdef".to_owned();
    let token = || "token-1".to_owned();
    let power = || "request-1".to_owned();
    let message = || "the message".to_owned();
    let handled = |reason| Handled {
        sequence: 2,
        id: power(),
        verb: Verb::Start,
        reason,
        message: message(),
        at: Timestamp::default(),
    };
    let mut steps = vec![
        Step::Accept,
        Step::TakeInstallSlot,
        Step::ReleaseInstallSlot,
        Step::TakeStartSlot { priority: 0 },
        Step::ReleaseStartSlot,
        Step::Prepare,
        Step::WriteScript { token: token() },
        Step::CreateInstaller { token: token() },
        Step::StartInstaller { container: container(), token: token() },
        Step::Kill { container: container(), role: Role::Server },
        Step::RecordInterrupted { container: container(), token: token() },
        Step::CloseInstallLog { container: container(), token: token() },
        Step::RecordInstall(InstallResult {
            token: token(),
            sequence: 1,
            outcome: InstallOutcome::Succeeded,
            reinstall: false,
            exit_code: Some(0),
            reason: Reason::Completed,
            message: message(),
            at: Timestamp::default(),
            reported: false,
        }),
        Step::AdoptServer { container: container() },
        Step::AdoptInstaller { container: container(), reinstall: false },
        Step::RemoveInstaller { container: container() },
        Step::RemoveServer { container: container() },
        Step::CreateServer { token: token() },
        Step::Assign { container: container(), power: power() },
        Step::StartServer { container: container(), power: power() },
        Step::Attach { container: container(), replay: true },
        Step::UpdateLimits { container: container(), boost: false },
        Step::RecordBegun { power: power() },
        Step::RecordStarted { container: container() },
        Step::EndStart { container: container() },
        Step::RecordCrash {
            crash: Crash { container: container(), exit_code: 1, restarted: true, ..Crash::default() },
            handled: handled(Reason::Crashed),
        },
        Step::ClosePower(handled(Reason::Stopped)),
        Step::Quiesce,
        Step::Forget,
    ];
    let jobs = [
        JobKind::Sync,
        JobKind::Script,
        JobKind::Image,
        JobKind::Usage,
        JobKind::ConfigFiles,
        JobKind::Permissions,
        JobKind::InstallLog,
        JobKind::Report,
        JobKind::Removal,
    ];
    steps.extend(jobs.map(|job| Step::StartJob { job, subject: Subject::Start(power()) }));
    let methods =
        [StopMethod::Command("say \"bye\"".into()), StopMethod::Signal("SIGINT"), StopMethod::Native, StopMethod::Kill];
    let grace = Duration::from_secs(600);
    steps.extend(methods.map(|method| Step::Stop { container: container(), method, grace }));
    steps
}

#[test]
fn every_step_has_its_sentence() {
    let sentences: Vec<String> = steps().iter().map(|step| format!("{}: {step}", step.kind().as_str())).collect();
    for sentence in &sentences {
        assert!(!sentence.contains('{'), "{sentence}");
    }
    insta::assert_snapshot!(sentences.join("\n"));
}

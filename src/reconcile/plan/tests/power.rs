//! Starts after installations.

use super::fixture::Fixture;
use crate::model::InstallOutcome;

/// The id of the request that counts.
fn counts(fixture: &Fixture) -> Option<String> {
    fixture.asked().power().map(|request| request.id)
}

fn installed_to_start(fixture: Fixture) -> Fixture {
    fixture.wants_install("i1").then_start().install_ended("i1", InstallOutcome::Succeeded)
}

#[test]
fn the_later_of_power_and_the_start_after_an_installation_counts() {
    assert_eq!(counts(&installed_to_start(Fixture::panel_server().wants_down("d1"))).as_deref(), Some("install:i1"));
    assert_eq!(counts(&installed_to_start(Fixture::panel_server()).wants_down("d1")).as_deref(), Some("d1"));
}

#[test]
fn an_installation_is_followed_by_a_start_only_if_it_succeeded_and_was_asked_to() {
    assert_eq!(counts(&installed_to_start(Fixture::panel_server())).as_deref(), Some("install:i1"));
    let failed = Fixture::panel_server().wants_install("i1").then_start().install_ended("i1", InstallOutcome::Failed);
    assert_eq!(counts(&failed), None);
    let not_asked = Fixture::panel_server().wants_install("i1").install_ended("i1", InstallOutcome::Succeeded);
    assert_eq!(counts(&not_asked), None);
    let another =
        Fixture::panel_server().wants_install("i2").then_start().install_ended("i1", InstallOutcome::Succeeded);
    assert_eq!(counts(&another), None);
    let before = Fixture::panel_server().wants_up("p1").wants_install("i1").install_ended("i1", InstallOutcome::Failed);
    assert_eq!(counts(&before).as_deref(), Some("p1"), "what was asked before the installation still is");
}

#[test]
fn an_installation_is_pending_until_it_is_done() {
    let pending = |fixture: Fixture| fixture.asked().install().is_some();
    assert!(!pending(Fixture::panel_server()));
    assert!(pending(Fixture::panel_server().wants_install("i1")));
    assert!(pending(Fixture::panel_server().install_ended("i0", InstallOutcome::Succeeded).wants_install("i1")));
    assert!(!pending(Fixture::panel_server().wants_install("i1").install_ended("i1", InstallOutcome::Failed)));
}

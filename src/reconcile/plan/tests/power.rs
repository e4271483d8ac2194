//! Which power wish counts.

use super::scene::{Scene, at};
use crate::model::{Closed, InstallOutcome, Reason, Want};
use crate::reconcile::plan::{open_install, wish};

/// The id of the wish that counts.
fn counts(scene: &Scene) -> Option<String> {
    wish(scene.intent.as_ref().unwrap(), &scene.record).map(|wish| wish.id)
}

fn installed_to_start(scene: Scene) -> Scene {
    scene.wants_install("i1").then_start().install_ended("i1", InstallOutcome::Succeeded)
}

#[test]
fn the_later_of_power_and_the_start_after_an_installation_counts() {
    let power = |scene: Scene, asked: Option<i64>| {
        scene.wants_down("d1").with(|s| {
            s.manifest().spec.power.as_mut().unwrap().requested_at = asked.map(at);
        })
    };
    let install = |scene: Scene, asked: Option<i64>| scene.install(|install| install.requested_at = asked.map(at));
    for (power_asked, install_asked, expected) in [
        (Some(-5), Some(-10), "d1"),
        (Some(-15), Some(-10), "install:i1"),
        // Made in the same millisecond: there was a server to stop only after it was created.
        (Some(-10), Some(-10), "d1"),
        (None, Some(-10), "d1"),
        (None, None, "d1"),
        (Some(-5), None, "d1"),
    ] {
        let scene = install(power(installed_to_start(Scene::panel_server()), power_asked), install_asked);
        assert_eq!(counts(&scene).as_deref(), Some(expected), "power {power_asked:?}, install {install_asked:?}");
    }
}

#[test]
fn an_installation_is_followed_by_a_start_only_if_it_succeeded_and_was_asked_to() {
    assert_eq!(counts(&installed_to_start(Scene::panel_server())).as_deref(), Some("install:i1"));
    let failed = Scene::panel_server().wants_install("i1").then_start().install_ended("i1", InstallOutcome::Failed);
    assert_eq!(counts(&failed), None);
    let not_asked = Scene::panel_server().wants_install("i1").install_ended("i1", InstallOutcome::Succeeded);
    assert_eq!(counts(&not_asked), None);
    let another = Scene::panel_server().wants_install("i2").then_start().install_ended("i1", InstallOutcome::Succeeded);
    assert_eq!(counts(&another), None);
    let power = Scene::panel_server().wants_up("p1");
    let found = wish(power.intent.as_ref().unwrap(), &power.record).unwrap();
    assert_eq!((found.id.as_str(), found.want), ("p1", Want::Up));
}

#[test]
fn an_installation_is_open_until_its_own_token_is_done() {
    let open = |scene: &Scene| open_install(scene.intent.as_ref().unwrap(), &scene.record).is_some();
    assert!(!open(&Scene::panel_server()));
    assert!(open(&Scene::panel_server().wants_install("i1")));
    assert!(open(&Scene::panel_server().wants_install("i1").install_ended("i0", InstallOutcome::Succeeded)));
    assert!(!open(&Scene::panel_server().wants_install("i1").install_ended("i1", InstallOutcome::Failed)));
}

#[test]
fn the_opposite_under_the_same_id_is_another_wish() {
    let stopped = |scene: Scene| {
        scene.installed().container_exited("c1", "a", 0).with(|scene| {
            let (reason, message) = (Reason::Stopped, "the server is stopped".into());
            let closed = Closed { id: "a".into(), want: Some(Want::Down), reason, message, at: at(-1) };
            scene.record.power.closed = Some(closed);
        })
    };
    let down = stopped(Scene::panel_server().wants_down("a"));
    assert!(down.plan().steps.is_empty(), "{:?}", down.plan().steps);
    let up = stopped(Scene::panel_server().wants_up("a"));
    assert!(!up.plan().steps.is_empty(), "a person has written `up` where `down` was done");

    // A record of an earlier release does not say what the wish wanted.
    let older = up.with(|scene| scene.record.power.closed.as_mut().unwrap().want = None);
    assert!(older.plan().steps.is_empty(), "{:?}", older.plan().steps);
}

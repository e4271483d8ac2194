//! The frames of each event.

use super::*;
use crate::events::TransferStatus;
use crate::model::{PowerState, Reason};

fn text(event: &EventKind) -> Option<String> {
    frames(event, "alula").map(|frame| {
        let start = frame.iter().position(|byte| *byte == b'{').unwrap();
        String::from_utf8(frame[start..].to_vec()).unwrap().trim_end().to_owned()
    })
}

#[test]
fn events_have_the_frames_of_wings() {
    for (event, expected) in [
        (EventKind::State { state: PowerState::Starting }, r#"{"event":"status","args":["starting"]}"#),
        (EventKind::InstallBegun, r#"{"event":"install started","args":[""]}"#),
        (
            EventKind::InstallerStarted,
            r#"{"event":"daemon message","args":["Starting installation process, this could take a few minutes..."]}"#,
        ),
        (EventKind::InstallEnded, r#"{"event":"install completed","args":[""]}"#),
        (EventKind::TransferStatus(TransferStatus::Processing), r#"{"event":"transfer status","args":["processing"]}"#),
        (EventKind::Deleted, r#"{"event":"deleted","args":["null"]}"#),
        (
            EventKind::Daemon { line: "Exit code: 1".into(), number: 1 },
            r#"{"event":"console output","args":["\u001b[33m\u001b[1m[alula Daemon]:\u001b[39m Exit code: 1\u001b[0m"]}"#,
        ),
    ] {
        assert_eq!(text(&event).as_deref(), Some(expected));
        assert_eq!(audience(&event), Some(Audience::All), "{event:?}");
    }
    assert!(text(&EventKind::Lagged { missed: 12 }).unwrap().contains("up to 12 lines are missing here"));
}

#[test]
fn the_log_of_a_transfer_is_for_administrators() {
    let event = EventKind::TransferLog("text".into());
    assert_eq!(text(&event).as_deref(), Some(r#"{"event":"transfer logs","args":["text"]}"#));
    assert_eq!(audience(&event), Some(Audience::With("admin.websocket.transfer")));
}

#[test]
fn events_of_the_node_are_not_for_browsers() {
    let event = EventKind::Event { number: 1, reason: Reason::LeftOut, message: "x".into(), count: 1 };
    for event in [event, EventKind::Suspended] {
        assert_eq!((audience(&event), text(&event)), (None, None));
    }
}

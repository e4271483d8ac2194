//! What follows from messages and events, for tokens of all kinds.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::events::FeatureMatch;

const NOW: i64 = 1_800_000_000;
const SERVER: &str = "11111111-1111-4111-8111-111111111111";

fn server() -> ServerId {
    SERVER.parse().unwrap()
}

fn key() -> Secret {
    Secret::new("the-token")
}

fn token(permissions: &[&str], server: &str, lifetime: i64) -> String {
    let claims = json!({
        "iat": NOW - 10, "exp": NOW + lifetime, "scope": "websocket", "server_uuid": server,
        "user_uuid": "22222222-2222-4222-8222-222222222222", "permissions": permissions,
    });
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(b"the-token").unwrap()).unwrap()
}

/// A socket, and the seconds since its first message.
struct Socket {
    session: Session,
    revocations: Revocations,
    began: Instant,
    seconds: u64,
}

impl Socket {
    fn new() -> Self {
        let revocations = Revocations::new(Timestamp::from_millis((NOW - 3600) * 1000));
        Self { session: Session::new(server()), revocations, began: Instant::now(), seconds: 0 }
    }

    /// A socket whose token has these permissions and `websocket.connect`.
    fn with(permissions: &[&str]) -> Self {
        let mut socket = Self::new();
        let permissions: Vec<&str> = permissions.iter().copied().chain(["websocket.connect"]).collect();
        let response = socket.send("auth", &token(&permissions, SERVER, 600));
        assert_eq!(response, Response::Authenticated { first: true });
        socket
    }

    fn at<T>(&mut self, act: impl FnOnce(&mut Session, Now<'_>) -> T) -> T {
        let time = Timestamp::from_millis((NOW + i64::try_from(self.seconds).unwrap()) * 1000);
        let instant = self.began + Duration::from_secs(self.seconds);
        act(&mut self.session, Now { time, instant, revocations: &self.revocations })
    }

    fn send(&mut self, event: &str, argument: &str) -> Response {
        let text = json!({"event": event, "args": [argument]}).to_string();
        self.at(|session, now| session.receive(&text, &key(), now))
    }

    fn event(&mut self, event: &EventKind) -> Option<(String, String)> {
        self.at(|session, now| session.frames(event, "app", now)).map(|frames| read(&frames))
    }
}

/// The event of a frame, and its argument.
fn read(frame: &Bytes) -> (String, String) {
    let start = frame.iter().position(|byte| *byte == b'{').unwrap();
    let value: Value = serde_json::from_slice(&frame[start..]).unwrap();
    let argument = value["args"][0].as_str().unwrap_or_default();
    (value["event"].as_str().unwrap().to_owned(), argument.to_owned())
}

fn read_response(response: Response) -> (String, String) {
    match response {
        Response::Frame(frame) => read(&frame),
        other => panic!("{other:?}"),
    }
}

fn state(state: PowerState) -> EventKind {
    EventKind::State { state }
}

#[test]
fn nothing_is_done_or_shown_without_a_token() {
    let mut socket = Socket::new();
    for event in ["set state", "send command", "send logs", "send stats"] {
        let answer = read_response(socket.send(event, "start"));
        assert_eq!(answer, ("jwt error".into(), "jwt: no jwt present".into()), "{event}");
    }
    assert_eq!(socket.event(&state(PowerState::Running)), None);
    assert!(socket.at(|session, now| session.tick(now)).is_none());
}

#[test]
fn the_first_token_begins_and_later_ones_replace_it() {
    let mut socket = Socket::with(&[]);
    let greeting = socket.session.greet(PowerState::Offline).map(|frame| read(&frame));
    assert_eq!(greeting, [("auth success".into(), String::new()), ("status".into(), "offline".into())]);
    assert_eq!(socket.send("set state", "start"), Response::Nothing, "without the permission");
    let response = socket.send("auth", &token(&["websocket.connect", "control.start"], SERVER, 600));
    assert_eq!(response, Response::Authenticated { first: false });
    assert_eq!(socket.send("set state", "start"), Response::Act(Action::Power(Verb::Start)));
}

#[test]
fn a_bad_token_is_named_and_the_one_before_stays() {
    for (bad, event, text) in [
        (token(&["*"], SERVER, -1), "jwt error", "jwt: exp claim is invalid"),
        (token(&["control.start"], SERVER, 600), "jwt error", "jwt: missing connect permission"),
        (token(&["*"], "33333333-3333-4333-8333-333333333333", 600), "jwt error", "jwt: server uuid mismatch"),
        ("garbage".into(), "daemon error", UNEXPECTED),
        (String::new(), "daemon error", UNEXPECTED),
    ] {
        let mut socket = Socket::with(&["control.start"]);
        let (answer, shown) = read_response(socket.send("auth", &bad));
        let expected = shown.strip_prefix("Error Event [").and_then(|rest| rest.split_once("]: ")).unwrap();
        assert_eq!((answer.as_str(), expected.1), (event, text));
        assert!(expected.0.parse::<Uuid>().is_ok());
        assert_eq!(socket.send("set state", "start"), Response::Act(Action::Power(Verb::Start)));
    }
}

#[test]
fn each_action_needs_its_permission() {
    let actions = [
        ("set state", "start", "control.start", Action::Power(Verb::Start)),
        ("set state", "stop", "control.stop", Action::Power(Verb::Stop)),
        ("set state", "kill", "control.stop", Action::Power(Verb::Kill)),
        ("set state", "restart", "control.restart", Action::Power(Verb::Restart)),
        ("send command", "say hi", "control.console", Action::Command("say hi".into())),
    ];
    for (event, argument, permission, action) in &actions {
        for granted in ["control.start", "control.stop", "control.restart", "control.console", "*"] {
            let response = Socket::with(&[granted]).send(event, argument);
            match granted == *permission || granted == "*" {
                true => assert_eq!(response, Response::Act(action.clone()), "{event} {argument} with {granted}"),
                false => assert_eq!(response, Response::Nothing, "{event} {argument} with {granted}"),
            }
        }
    }
    assert_eq!(Socket::with(&[]).send("send logs", ""), Response::Act(Action::SendLogs));
    assert_eq!(Socket::with(&[]).send("send stats", ""), Response::Act(Action::SendStats));
    assert_eq!(Socket::with(&["*"]).send("unknown", ""), Response::Nothing);
}

#[test]
fn administrators_see_the_text_of_errors() {
    let text = |permissions: &[&str]| read_response(Socket::with(permissions).send("set state", "explode")).1;
    assert!(text(&["*"]).ends_with(UNEXPECTED));
    assert!(text(&["*", SEE_ERRORS]).ends_with("\"explode\" is not a power action"));
}

#[test]
fn an_expired_token_shows_nothing_until_a_fresh_one_comes() {
    let mut socket = Socket::new();
    socket.send("auth", &token(&["*"], SERVER, 100));
    let tick = |socket: &mut Socket| socket.at(|session, now| session.tick(now)).map(|frame| read(&frame).0);
    for (seconds, expected) in [
        (39, None),
        (40, Some("token expiring")),
        (99, Some("token expiring")),
        (100, Some("token expired")),
        (200, Some("token expired")),
    ] {
        socket.seconds = seconds;
        assert_eq!(tick(&mut socket).as_deref(), expected, "after {seconds} s");
    }
    let refused = ("jwt error".to_owned(), "jwt: exp claim is invalid".to_owned());
    assert_eq!(socket.event(&state(PowerState::Running)), Some(refused.clone()));
    assert_eq!(socket.event(&state(PowerState::Running)), None, "the reason is sent once in a while");
    assert_eq!(read_response(socket.send("send stats", "")), refused);
    socket.seconds += 1;
    assert_eq!(socket.at(|session, now| session.stats("{}", now)).map(|frame| read(&frame)), Some(refused));
    assert_eq!(socket.send("auth", &token(&["*"], SERVER, 900)), Response::Authenticated { first: false });
    assert_eq!(socket.event(&state(PowerState::Running)), Some(("status".into(), "running".into())));
}

#[test]
fn a_revoked_token_shows_and_does_nothing() {
    let mut socket = Socket::with(&["*"]);
    let user = "22222222-2222-4222-8222-222222222222";
    socket.revocations.revoke(server(), crate::api::tokens::Revoked::User(user), Timestamp::from_millis(NOW * 1000));
    let refused = ("jwt error".to_owned(), "jwt: created too far in past (denylist)".to_owned());
    assert_eq!(socket.event(&state(PowerState::Running)), Some(refused.clone()));
    assert_eq!(read_response(socket.send("set state", "kill")), refused);
    assert_eq!(socket.at(|session, now| session.tick(now)).map(|frame| read(&frame)), Some(refused));
}

#[test]
fn a_state_is_shown_once_and_features_while_the_server_is_up() {
    let mut socket = Socket::with(&[]);
    let feature = FeatureMatch { key: "eula".into(), line: "agree".into(), pattern: "a".into() };
    let feature = EventKind::FeatureMatch(feature);
    socket.session.greet(PowerState::Offline);
    assert_eq!(socket.event(&state(PowerState::Offline)), None);
    assert_eq!(socket.event(&feature), None);
    assert_eq!(socket.event(&state(PowerState::Starting)), Some(("status".into(), "starting".into())));
    let (event, argument) = socket.event(&feature).unwrap();
    assert_eq!(
        (event.as_str(), argument.as_str()),
        ("feature match", r#"{"key":"eula","line":"agree","pattern":"a"}"#)
    );
    socket.event(&state(PowerState::Stopping));
    assert_eq!(socket.event(&feature), None);
}

#[test]
fn the_output_of_installations_is_for_administrators() {
    let mut output = crate::events::frames::OutputBuilder::new("install output");
    output.push("fetching", 0);
    let event = EventKind::Install(output.take().unwrap());
    assert_eq!(Socket::with(&["*"]).event(&event), None);
    let shown = Socket::with(&["admin.websocket.install"]).event(&event);
    assert_eq!(shown, Some(("install output".into(), "fetching".into())));
}

#[test]
fn too_many_messages_are_dropped_with_one_notice() {
    let mut socket = Socket::with(&["*"]);
    let answers: Vec<Response> = (0..6).map(|_| socket.send("send stats", "")).collect();
    assert!(answers[..4].iter().all(|answer| *answer == Response::Act(Action::SendStats)));
    assert_eq!(answers[4], Response::Frame(frame("throttled", &["send stats"])));
    assert_eq!(answers[5], Response::Nothing);
}

proptest! {
    /// Any messages in any order: no panic, and no action without a token.
    #[test]
    fn any_message_is_handled(texts in prop::collection::vec("\\PC*|\\{\"event\":\"(auth|set state|send [a-z]{4,7})\",\"args\":\\[\"[a-z]{0,8}\"\\]\\}", 0..20)) {
        let mut socket = Socket::new();
        for text in texts {
            let response = socket.at(|session, now| session.receive(&text, &key(), now));
            prop_assert!(!matches!(response, Response::Act(_) | Response::Authenticated { .. }), "{text}");
        }
    }
}

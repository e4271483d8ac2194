//! Tokens, good and bad: by a table, and any text.

use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const SERVER: &str = "11111111-1111-4111-8111-111111111111";

fn key() -> Secret {
    Secret::new("the-token")
}

fn sign(claims: &Value, algorithm: Algorithm, key: &str) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key.as_bytes()).unwrap()).unwrap()
}

/// A good token, changed.
fn claims(change: Value) -> Value {
    let mut claims = json!({
        "iss": "https://panel", "aud": ["https://node"], "jti": "id", "iat": NOW - 10, "nbf": NOW + 3600, "exp": NOW + 600,
        "server_uuid": SERVER, "user_uuid": "22222222-2222-4222-8222-222222222222", "permissions": ["*"],
        "scope": "other websocket", "unique_id": "x",
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn check(claims: &Value) -> Result<(), Refusal> {
    let claims = Claims::read(&sign(claims, Algorithm::HS256, "the-token"), &key()).unwrap();
    let revocations = Revocations::new(Timestamp::from_millis((NOW - 3600) * 1000));
    let now = Timestamp::from_millis(NOW * 1000 + 999);
    claims.check(Check { scope: Scope::Websocket, server: SERVER.parse().unwrap(), now, revocations: &revocations })
}

#[test]
fn a_good_token_is_accepted_until_the_end_of_its_last_second() {
    for change in [json!({}), json!({"exp": NOW}), json!({"iat": NOW as f64 - 0.5}), json!({"permissions": [CONNECT]})]
    {
        assert_eq!(check(&claims(change.clone())), Ok(()), "{change}");
    }
}

#[test]
fn each_fault_of_a_token_is_named() {
    for (change, refusal) in [
        (json!({"exp": NOW - 1}), Refusal::Expired),
        (json!({"exp": null, "iat": null}), Refusal::Expired),
        (json!({"iat": null}), Refusal::Revoked),
        (json!({"iat": NOW - 3600}), Refusal::Revoked),
        (json!({"user_uuid": ""}), Refusal::Revoked),
        (json!({"server_uuid": null}), Refusal::Revoked),
        (json!({"scope": "websockets"}), Refusal::NoConnect),
        (json!({"scope": null}), Refusal::NoConnect),
        (json!({"permissions": ["control.console"]}), Refusal::NoConnect),
        (json!({"permissions": null}), Refusal::NoConnect),
        (json!({"server_uuid": "33333333-3333-4333-8333-333333333333"}), Refusal::OtherServer),
    ] {
        assert_eq!(check(&claims(change.clone())), Err(refusal), "{change}");
    }
}

#[test]
fn tokens_with_another_signature_or_shape_are_not_read() {
    let good = claims(json!({}));
    let token = sign(&good, Algorithm::HS256, "the-token");
    assert!(Claims::read(&token, &key()).is_ok());
    assert!(Claims::read(&token, &Secret::default()).is_err(), "an empty key signs nothing");
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", rest.split_once('.').unwrap().1);
    for bad in [
        sign(&good, Algorithm::HS512, "the-token"),
        sign(&good, Algorithm::HS256, "another"),
        sign(&claims(json!({"permissions": "*"})), Algorithm::HS256, "the-token"),
        sign(&claims(json!({"exp": "soon"})), Algorithm::HS256, "the-token"),
        unsigned,
        format!("{rest}."),
        format!("{rest}x.{signature}"),
        String::new(),
        "garbage".into(),
        "..".into(),
    ] {
        assert!(Claims::read(&bad, &key()).is_err(), "{bad}");
    }
}

#[test]
fn all_permissions_are_those_of_no_administrator() {
    let of = |permissions: &[&str]| Claims {
        permissions: permissions.iter().map(|name| (*name).into()).collect(),
        ..Claims::default()
    };
    assert!(of(&["*"]).allows("control.start") && !of(&["*"]).allows("admin.websocket.errors"));
    assert!(of(&["*", "admin.websocket.errors"]).allows("admin.websocket.errors"));
    assert!(of(&["control.stop"]).allows("control.stop") && !of(&["control.stop"]).allows("control.start"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_rejected(text in "\\PC*", parts in prop::collection::vec("[A-Za-z0-9_-]{0,80}", 0..5)) {
        prop_assert!(Claims::read(&text, &key()).is_err());
        prop_assert!(Claims::read(&parts.join("."), &key()).is_err());
    }

    #[test]
    fn any_claims_are_checked_without_a_panic(exp in any::<f64>(), iat in any::<i64>(), scope in ".*") {
        let _ = check(&claims(json!({"exp": exp, "iat": iat, "scope": scope})));
    }
}

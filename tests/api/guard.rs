//! Headers, origins, the token, and paths that lead nowhere.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::json;

use crate::node::{ApiNode, PANEL, TOKEN};

const AGENT: &str = "Pelican Wings/v1.13.3 (id:TokenId)";

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(Body::empty()).unwrap()
}

fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

#[tokio::test(start_paused = true)]
async fn every_path_requires_the_token() {
    let node = ApiNode::new();
    for path in ["/api/system", "/api/servers/550e8400-e29b-41d4-a716-446655440000", "/", "/nope", "/api/servers/"] {
        for headers in [vec![], vec![("authorization", "Basic dGVzdA==")], vec![("authorization", "bearer the-token")]]
        {
            let answer = node.send(request("GET", path, &headers)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {headers:?}");
            let message = "The required authorization heads were not present in the request.";
            assert_eq!(answer.json(), json!({"error": message}));
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
            assert_eq!(answer.header("user-agent"), AGENT);
        }
        for token in ["Bearer ", "Bearer other", "Bearer TokenId.the-token", "Bearer the-token "] {
            let answer = node.send(request("GET", path, &[("authorization", token)])).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {token:?}");
            assert_eq!(answer.json(), json!({"error": "You are not authorized to access this endpoint."}));
            assert_eq!((answer.header("user-agent"), answer.header("www-authenticate")), (AGENT, ""));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_an_id_of_its_own_and_the_nodes_name() {
    let node = ApiNode::new();
    let inbound = ("x-request-id", "00000000-0000-4000-8000-000000000000");
    let mut ids = Vec::new();
    for path in ["/api/system", "/nope"] {
        let answer = node.send(request("GET", path, &[("authorization", &bearer()), inbound])).await;
        assert_eq!(answer.header("user-agent"), AGENT, "{path}");
        ids.push(answer.header("x-request-id").to_owned());
    }
    let answer = node.send(request("OPTIONS", "/nope", &[inbound])).await;
    assert_eq!(answer.header("user-agent"), "");
    ids.push(answer.header("x-request-id").to_owned());
    for id in &ids {
        assert!(id.parse::<uuid::Uuid>().is_ok_and(|id| id.get_version_num() == 4), "{id}");
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn options_is_answered_on_any_path_without_a_token() {
    let node = ApiNode::new();
    for path in ["/", "/nope", "/api/servers", "/api/servers/x/power/"] {
        let answer = node.send(request("OPTIONS", path, &[("origin", "https://elsewhere.example")])).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NO_CONTENT, ""));
        assert_eq!(answer.header("access-control-allow-origin"), PANEL);
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(answer.header("access-control-allow-methods"), "GET, POST, PATCH, PUT, DELETE, OPTIONS");
        let allowed = "Accept, Accept-Encoding, Authorization, Cache-Control, Content-Type, Content-Length, Origin, X-Real-IP, X-CSRF-Token";
        assert_eq!(answer.header("access-control-allow-headers"), allowed);
        assert_eq!(answer.header("access-control-max-age"), "7200");
        assert_eq!(answer.header("access-control-request-private-network"), "");
    }
}

#[tokio::test(start_paused = true)]
async fn allowed_origins_are_echoed() {
    let listed = ApiNode::with_config(|node| {
        node.api.allowed_origins = vec!["https://one.example".into(), "https://two.example".into()];
        node.api.allow_cors_private_network = true;
    });
    let any = ApiNode::with_config(|node| node.api.allowed_origins = vec!["*".into(), "https://two.example".into()]);
    for (node, origin, allowed) in [
        (&listed, None, PANEL),
        (&listed, Some(PANEL), PANEL),
        (&listed, Some("https://two.example"), "https://two.example"),
        (&listed, Some("https://three.example"), PANEL),
        (&any, Some("https://two.example"), "*"),
        (&any, Some(PANEL), PANEL),
    ] {
        let origin: Vec<(&str, &str)> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        // Also where the answer is a refusal.
        let answer = node.send(request("GET", "/", &origin)).await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{origin:?}");
    }
    let answer = listed.send(request("GET", "/", &[])).await;
    assert_eq!(answer.header("access-control-request-private-network"), "true");
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_route_there_is_a_404_in_plain_text() {
    let node = ApiNode::new();
    let id = node.add(1);
    for (method, path) in [
        ("GET", "/".to_owned()),
        ("GET", "/nope".into()),
        ("DELETE", "/api/system".into()),
        ("PATCH", format!("/api/servers/{id}")),
        ("GET", format!("/api/servers/{id}/power")),
        ("HEAD", "/api/system".into()),
        ("HEAD", "/api/system/".into()),
        ("HEAD", "/nope".into()),
        // Not behind this door.
        ("GET", "/local/servers".into()),
        ("GET", "/local/servers/".into()),
        // A slash too many, and still no route.
        ("GET", "/nope/".into()),
        ("POST", "/api/system/".into()),
        ("GET", "//".into()),
        ("GET", "//evil.example/".into()),
        ("GET", "//evil.example//".into()),
        ("GET", "/api/servers//".into()),
        ("GET", format!("/api/servers/{id}//")),
    ] {
        let answer = node.send(request(method, &path, &[("authorization", &bearer())])).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::NOT_FOUND, ""), "{method} {path}");
        // Of an answer to HEAD, hyper sends the head alone.
        assert_eq!((answer.header("content-type"), answer.text.as_str()), ("text/plain", "404 page not found"));
        assert_eq!(answer.header("allow"), "", "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slash_too_many_leads_to_the_route() {
    let node = ApiNode::new();
    for (method, path, status, location) in [
        (Method::GET, "/api/system/?v=2&x=%20", 301, "/api/system?v=2&x=%20"),
        (Method::GET, "/api/servers/", 301, "/api/servers"),
        (Method::POST, "/api/servers/", 307, "/api/servers"),
        (Method::POST, "/api/servers/x/power/", 307, "/api/servers/x/power"),
        (Method::DELETE, "/api/servers/x/", 307, "/api/servers/x"),
        (Method::GET, "/api/servers/a%2Fb/logs/?size=5", 301, "/api/servers/a%2Fb/logs?size=5"),
    ] {
        let answer = node.ask(method, path, "").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (status, location), "{path}");
    }
}

//! Answers the authority, which checks that the name leads to this host (HTTP-01).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::accept::{Acceptor, Listener};
use super::super::limits::Limits;
use crate::tasks::Tasks;

/// Where the authority looks for the answer to a token.
const PATH: &str = "/.well-known/acme-challenge/";

/// Answers by token.
pub type Answers = BTreeMap<String, String>;

/// Answers until the guard is dropped.
///
/// # Errors
/// The port cannot be opened.
pub async fn serve(port: u16, answers: Answers, tasks: &Tasks) -> anyhow::Result<DropGuard> {
    let listener = match TcpListener::bind(("::", port)).await {
        Ok(listener) => listener,
        // A host without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await.with_context(|| {
            format!("cannot listen on port {port}: stop the program that does, or let it forward {PATH} and name the port that it forwards to in --acme-port")
        })?,
    };
    let answers = Arc::new(answers);
    let router = Router::new().fallback(async move |request: Request| {
        let answer = request.uri().path().strip_prefix(PATH).and_then(|token| answers.get(token));
        answer.cloned().ok_or(StatusCode::NOT_FOUND)
    });
    let end = CancellationToken::new();
    let acceptor = Acceptor::new(Listener::Tcp(listener, None), router, Limits::API, tasks.clone());
    tasks.spawn("acme challenges", acceptor.run(end.clone()));
    Ok(end.drop_guard())
}

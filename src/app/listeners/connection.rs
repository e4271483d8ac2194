//! One connection: the router handles its requests, and it is closed after an idle time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::activity::Activity;
use super::limits::Limits;
use crate::api::Peer;
use crate::tasks::Tasks;

/// A connection that was accepted.
pub struct Connection {
    pub peer: Peer,
    pub router: Router,
    pub limits: Limits,
    /// Spawns the HTTP/2 streams.
    pub tasks: Tasks,
    /// The activity of the stream, below TLS if there is TLS.
    pub activity: Activity,
    /// Cancelled when the daemon ends.
    pub end: CancellationToken,
}

impl Connection {
    /// Serves HTTP/1 and HTTP/2 until the client closes the connection, the connection is idle for too long, or the daemon ends.
    /// The stream of a websocket leaves this task, and with it the count of connections: it has a limit of its own.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { peer, router, limits, tasks, activity, end } = self;
        let of_requests = activity.clone();
        let service = service_fn(move |request| answer(router.clone(), request, peer, of_requests.clone()));
        let mut http = auto::Builder::new(Streams(tasks));
        http.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle);
        let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        tokio::select! {
            // An error means that the client has gone, or does not speak HTTP.
            _ = connection.as_mut() => return,
            () = end.cancelled() => {}
            // hyper's own timeout covers neither a connection before its first byte nor HTTP/2.
            () = activity.idle(limits.idle) => {}
        }
        connection.as_mut().graceful_shutdown();
        let closing = async {
            if end.run_until_cancelled(activity.idle(limits.close)).await.is_none() {
                activity.idle(limits.end).await;
            }
        };
        tokio::select! {
            _ = connection => {}
            () = closing => tracing::debug!(%peer, "idle connection dropped: the client does not close it"),
        }
    }
}

async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    peer: Peer,
    activity: Activity,
) -> Result<Response<Body>, Infallible> {
    let _handler = activity.handler();
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.oneshot(request.map(|body| Body::new(activity.request(body)))).await?;
    Ok(response.map(|body| Body::new(activity.answer(body))))
}

/// Runs each HTTP/2 request as a task, which ends with its answer or with its connection.
#[derive(Clone)]
struct Streams(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn_graceful("http/2 stream", |_| stream);
    }
}

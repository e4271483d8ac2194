//! One connection: its requests go to the router, and it is closed when it is idle for too long.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::limits::Limits;
use crate::api::Peer;
use crate::tasks::Tasks;

/// What a connection is served with.
pub struct Connection {
    /// The client.
    pub peer: Peer,
    /// Where requests go.
    pub router: Router,
    /// What the client is granted.
    pub limits: Limits,
    /// Where the tasks of HTTP/2 streams belong.
    pub tasks: Tasks,
    /// Cancelled when the daemon ends.
    pub end: CancellationToken,
}

impl Connection {
    /// Speaks HTTP, 1 or 2, until the client closes the connection, is idle for too long, or the daemon ends. Upgrades are not
    /// offered: an upgraded stream would leave this task, and with it the count of connections.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { peer, router, limits, tasks, end } = self;
        let requests = Requests::default();
        let counted = requests.clone();
        let service = service_fn(move |request| answer(router.clone(), request, peer, counted.begin()));
        let mut http = auto::Builder::new(Streams(tasks));
        http.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // An error is the client's: it is gone, or speaks something else.
            _ = connection.as_mut() => return,
            () = end.cancelled() => {}
            // hyper's own time limit knows neither a connection before its first byte nor HTTP/2.
            () = requests.idle(limits.idle) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = requests.idle(limits.close) => tracing::debug!(%peer, "client did not let go of an idle connection"),
        }
    }
}

async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    peer: Peer,
    begun: Begun,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.oneshot(request.map(Body::new)).await?;
    // The request lasts until its answer's body is sent and dropped, and this closure with it.
    let keep = move |error| {
        let _ = &begun;
        error
    };
    Ok(response.map(|body| Body::new(body.map_err(keep))))
}

/// How many requests of a connection are being answered.
#[derive(Clone, Default)]
struct Requests(watch::Sender<usize>);

/// One request that is being answered.
struct Begun(watch::Sender<usize>);

impl Requests {
    fn begin(&self) -> Begun {
        self.0.send_modify(|count| *count += 1);
        Begun(self.0.clone())
    }

    /// Ends when there was no request for so long.
    async fn idle(&self, limit: Duration) {
        let mut count = self.0.subscribe();
        loop {
            let idle = *count.borrow_and_update() == 0;
            if tokio::time::timeout(limit, count.changed()).await.is_err() && idle {
                return;
            }
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Runs what HTTP/2 does for each request: until it is answered, or cut off with the other tasks.
#[derive(Clone)]
struct Streams(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn_graceful("http/2 stream", |_| stream);
    }
}

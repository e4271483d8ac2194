//! The table of routes: method, path, who may call it, and the limit of its body. The routers of both listeners are built from it,
//! and each route checks its own row before its handler runs.

use std::future::{Ready, ready};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use futures_util::FutureExt;
use futures_util::future::{Either, Map};

use super::guard::{self, Access, Anonymous, Endpoint, Guard};
use super::request::limit_body;
use super::servers::{backups, restore, transfer};
use super::startup::Startup;
use super::transfers::session;
use super::{diagnostics, files, local, revoke, servers, signed, system, transfers, update, ws};
use crate::config::NodeConfig;

/// A row of the table.
struct Route {
    method: MethodFilter,
    path: &'static str,
    access: Access,
    /// The maximum size of a body, in bytes.
    max_body: usize,
    /// The handler behind the check of its row.
    handler: Box<dyn FnOnce(Check) -> MethodRouter<Startup>>,
}

/// What is checked before a handler runs.
#[derive(Clone)]
struct Check {
    guard: Arc<Guard>,
    access: Access,
    max_body: usize,
}

/// A handler behind a check. A layer would be called through two more boxes for each request.
#[derive(Clone)]
struct Checked<H> {
    check: Check,
    handler: H,
}

fn table() -> Vec<Route> {
    use Access::{Anyone, LocalSocket as Local, NodeToken as Node};
    const GET: MethodFilter = MethodFilter::GET;
    const POST: MethodFilter = MethodFilter::POST;
    const PUT: MethodFilter = MethodFilter::PUT;
    const DELETE: MethodFilter = MethodFilter::DELETE;
    const NONE: usize = 0;
    // The handler reads it piece by piece.
    const ANY: usize = usize::MAX;
    const SMALL: usize = 4 << 20;
    vec![
        Route::new(GET, "/api/system", Node, NONE, system::system),
        Route::new(POST, "/api/deauthorize-user", Node, SMALL, revoke::deauthorize_user),
        Route::new(POST, "/api/update", Node, SMALL, update::update),
        Route::new(GET, "/api/system/ips", Node, NONE, system::ips),
        Route::new(GET, "/api/system/utilization", Node, NONE, system::utilization),
        Route::new(GET, "/api/system/docker/disk", Node, NONE, system::engine_disk),
        Route::new(DELETE, "/api/system/docker/image/prune", Node, NONE, system::prune_images),
        Route::new(GET, "/api/diagnostics", Node, NONE, diagnostics::text),
        Route::new(GET, "/api/servers", Node, NONE, servers::list),
        Route::new(POST, "/api/servers", Node, SMALL, servers::create),
        Route::new(GET, "/api/servers/{server}", Node, NONE, servers::get),
        Route::new(DELETE, "/api/servers/{server}", Node, NONE, servers::delete),
        Route::new(POST, "/api/servers/{server}/power", Node, SMALL, servers::power),
        Route::new(POST, "/api/servers/{server}/commands", Node, SMALL, servers::commands),
        Route::new(POST, "/api/servers/{server}/install", Node, NONE, servers::install),
        Route::new(POST, "/api/servers/{server}/reinstall", Node, NONE, servers::reinstall),
        Route::new(POST, "/api/servers/{server}/sync", Node, NONE, servers::sync),
        Route::new(POST, "/api/servers/{server}/transfer", Node, SMALL, transfer::transfer),
        Route::new(DELETE, "/api/servers/{server}/transfer", Node, NONE, transfer::cancel),
        Route::new(POST, "/api/transfers", Anyone, ANY, transfers::receive),
        Route::new(POST, "/api/transfers/session", Anyone, SMALL, session::open),
        Route::new(GET, "/api/transfers/session/{server}", Anyone, NONE, session::state),
        Route::new(DELETE, "/api/transfers/session/{server}", Anyone, NONE, session::cancel),
        Route::new(POST, "/api/transfers/session/{server}/{part}/manifest", Anyone, ANY, session::manifest),
        Route::new(POST, "/api/transfers/session/{server}/{part}/blocks", Anyone, ANY, session::blocks),
        Route::new(POST, "/api/transfers/session/{server}/{part}/finish", Anyone, SMALL, session::finish),
        Route::new(DELETE, "/api/transfers/{server}", Node, NONE, transfers::cancel),
        Route::new(DELETE, "/api/transfer", Node, SMALL, transfers::cancelled_by_panel),
        Route::new(GET, "/api/servers/{server}/logs", Node, NONE, servers::logs),
        Route::new(GET, "/api/servers/{server}/install-logs", Node, NONE, servers::install_logs),
        Route::new(GET, "/api/servers/{server}/ws", Anyone, NONE, ws::connect),
        Route::new(POST, "/api/servers/{server}/ws/deny", Node, SMALL, revoke::deny_tokens),
        Route::new(GET, "/api/servers/{server}/files/contents", Node, NONE, files::contents),
        Route::new(GET, "/api/servers/{server}/files/list-directory", Node, NONE, files::list_directory),
        Route::new(GET, "/api/servers/{server}/files/search", Node, NONE, files::search),
        Route::new(PUT, "/api/servers/{server}/files/rename", Node, SMALL, files::rename),
        Route::new(POST, "/api/servers/{server}/files/copy", Node, SMALL, files::copy),
        Route::new(POST, "/api/servers/{server}/files/write", Node, ANY, files::write),
        Route::new(POST, "/api/servers/{server}/files/create-directory", Node, SMALL, files::create_directory),
        Route::new(POST, "/api/servers/{server}/files/delete", Node, SMALL, files::delete),
        Route::new(POST, "/api/servers/{server}/files/chmod", Node, SMALL, files::change_mode),
        Route::new(POST, "/api/servers/{server}/files/compress", Node, SMALL, files::compress),
        Route::new(POST, "/api/servers/{server}/files/decompress", Node, SMALL, files::decompress),
        Route::new(GET, "/api/servers/{server}/files/pull", Node, NONE, files::pulls),
        Route::new(POST, "/api/servers/{server}/files/pull", Node, SMALL, files::begin_pull),
        Route::new(DELETE, "/api/servers/{server}/files/pull/{download}", Node, NONE, files::cancel_pull),
        Route::new(POST, "/api/servers/{server}/backup", Node, SMALL, backups::create_backup),
        Route::new(POST, "/api/servers/{server}/backup/{backup}/restore", Node, SMALL, restore::restore_backup),
        Route::new(DELETE, "/api/servers/{server}/backup/{backup}", Node, NONE, backups::delete_backup),
        Route::new(DELETE, "/api/servers/{server}/deleteAllBackups", Node, NONE, backups::delete_all_backups),
        Route::new(GET, "/download/backup", Anyone, NONE, signed::download_backup),
        Route::new(GET, "/download/file", Anyone, NONE, signed::download_file),
        Route::new(POST, "/upload/file", Anyone, ANY, signed::upload_file),
        Route::new(GET, "/local/node", Local, NONE, local::node::node),
        Route::new(GET, "/local/diagnostics", Local, NONE, diagnostics::report),
        Route::new(GET, "/local/servers", Local, NONE, local::list),
        Route::new(GET, "/local/events", Local, NONE, local::events::events),
        Route::new(PUT, "/local/servers/{server}", Local, SMALL, local::apply),
        Route::new(DELETE, "/local/servers/{server}", Local, NONE, local::delete),
        Route::new(GET, "/local/servers/{server}/logs", Local, NONE, local::logs::logs),
        Route::new(GET, "/local/servers/{server}/files", Local, NONE, local::files::send),
        Route::new(PUT, "/local/servers/{server}/files", Local, ANY, local::files::receive),
        Route::new(GET, "/local/trash", Local, NONE, local::trash::list),
        Route::new(POST, "/local/trash/{name}/restore", Local, NONE, local::trash::restore),
        Route::new(GET, "/local/servers/{server}/export", Local, NONE, local::export::export),
        Route::new(PUT, "/local/import", Local, ANY, local::export::import),
        Route::new(GET, "/local/operations", Local, NONE, local::operations::list),
        Route::new(GET, "/local/servers/{server}/backups", Local, NONE, local::backups::list),
        Route::new(POST, "/local/servers/{server}/backups", Local, SMALL, local::backups::create),
        Route::new(DELETE, "/local/servers/{server}/backups/{backup}", Local, NONE, local::backups::delete),
        Route::new(GET, "/local/servers/{server}/backups/{backup}/archive", Local, NONE, local::backups::archive),
        Route::new(POST, "/local/servers/{server}/backups/{backup}/restore", Local, SMALL, local::backups::restore),
        Route::new(POST, "/local/servers/{server}/backups/{backup}/verify", Local, NONE, local::backups::verify),
        Route::new(POST, "/local/servers/{server}/undo-restore", Local, NONE, local::backups::undo),
        Route::new(GET, "/local/servers/{server}/plan", Local, NONE, local::plan),
        Route::new(POST, "/local/servers/{server}/power", Local, SMALL, local::power),
        Route::new(POST, "/local/servers/{server}/install", Local, SMALL, local::install),
    ]
}

/// The routes of a listener. Routes about servers wait until the startup has finished.
pub fn router(startup: &Startup, endpoint: Endpoint, node: &NodeConfig) -> Router {
    build(table(), startup, endpoint, node)
}

fn build(table: Vec<Route>, startup: &Startup, endpoint: Endpoint, node: &NodeConfig) -> Router {
    let guard = Arc::new(Guard::new(endpoint, node));
    let mut router = Router::new();
    for route in table.into_iter().filter(|route| guard.serves(route.access)) {
        let with_slash = format!("{}/", route.path);
        router = router.route(&with_slash, route.redirect(&guard)).route(route.path, route.answer(&guard));
    }
    let of_fallback = guard.clone();
    // Also the response for a known path with another method.
    let no_route =
        move |request: Request| ready(of_fallback.reject(Access::NodeToken, &request).unwrap_or_else(guard::not_found));
    let router = router.fallback(no_route.clone()).method_not_allowed_fallback(no_route);
    guard::wrap(router.with_state(startup.clone()), guard)
}

impl Route {
    fn new<T: 'static>(
        method: MethodFilter,
        path: &'static str,
        access: Access,
        max_body: usize,
        handler: impl Handler<T, Startup>,
    ) -> Self {
        let handler = Box::new(move |check| on(method, Checked { check, handler }));
        Self { method, path, access, max_body, handler }
    }

    fn answer(self, guard: &Arc<Guard>) -> MethodRouter<Startup> {
        (self.handler)(Check { guard: guard.clone(), access: self.access, max_body: self.max_body })
    }

    /// The route of the path with a slash at its end.
    fn redirect(&self, guard: &Arc<Guard>) -> MethodRouter<Startup> {
        let (guard, access) = (guard.clone(), self.access);
        on(self.method, move |request: Request| {
            // The router takes an empty part for a name: then it is no path of the table.
            let access = if request.uri().path().contains("//") { Access::NodeToken } else { access };
            ready(guard.reject(access, &request).unwrap_or_else(|| guard::without_slash(&request)))
        })
    }
}

impl<T, H: Handler<T, Startup>> Handler<T, Startup> for Checked<H> {
    type Future = Either<Ready<Response>, Map<H::Future, fn(Response) -> Response>>;

    fn call(self, mut request: Request, startup: Startup) -> Self::Future {
        let Check { guard, access, max_body } = self.check;
        if let Some(rejection) = guard.reject(access, &request) {
            return Either::Left(ready(rejection));
        }
        limit_body(&mut request, max_body);
        let complete: fn(Response) -> Response = if access == Access::Anyone { anonymous } else { |response| response };
        Either::Right(self.handler.call(request, startup).map(complete))
    }
}

fn anonymous(mut response: Response) -> Response {
    response.extensions_mut().insert(Anonymous);
    response
}

#[cfg(test)]
mod tests;

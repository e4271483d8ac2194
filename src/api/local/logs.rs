//! `GET /local/servers/{server}/logs`: the output of a server or its installer, and new output as a stream.

use std::io;
use std::sync::Arc;

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;

use super::any;
use crate::api::ApiError;
use crate::api::request::{ServerPath, parameter};
use crate::api::startup::Started;
use crate::api::stream::{self, Out};
use crate::events::{EventKind, ServerEvent, Subscription};
use crate::files::install_log;
use crate::files::log::LogReader;
use crate::model::ServerId;
use crate::reconcile::context::Context;

/// Lines are sent together up to this many bytes.
const PIECE: usize = 64 * 1024;

/// The requested log.
struct LogRequest {
    id: ServerId,
    tail: Option<u64>,
    /// New output, if it is followed.
    subscription: Option<Subscription>,
}

/// `GET /local/servers/{server}/logs[?install=true][&tail={lines}][&follow=true]`: the console's transcript, or the output of the
/// last installation, as text.
pub async fn logs(
    Started(api): Started,
    ServerPath(id): ServerPath,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query.as_deref();
    let tail = parameter(query, "tail")
        .map(str::parse)
        .transpose()
        .map_err(|_| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "`tail` has to be a number of lines"))?;
    let follow = parameter(query, "follow") == Some("true");
    // Before the server is read, so that neither output nor its deletion is missed.
    let subscription = follow.then(|| api.context.store.events().subscribe(id));
    any(&api, id)?;
    let (context, request) = (api.context.clone(), LogRequest { id, tail, subscription });
    let (tasks, content_type) = (&api.context.tasks, "text/plain; charset=utf-8");
    Ok(match parameter(query, "install") == Some("true") {
        true => stream::answer(tasks, format!("stream of install log {id}"), content_type, |out| {
            install(context, request, out)
        }),
        false => {
            stream::answer(tasks, format!("stream of console {id}"), content_type, |out| console(context, request, out))
        }
    })
}

/// Sends the transcript, and then new lines.
async fn console(context: Arc<Context>, request: LogRequest, out: Out) -> io::Result<()> {
    let handover = context.console.handover(request.id, &context.node.layout.logs(request.id)).await?;
    let mut at_line_end = true;
    if let Some(mut file) = handover.file {
        let in_memory = handover.unwritten.iter().filter(|byte| **byte == b'\n').count() as u64;
        let tail = request.tail.map(|lines| lines.saturating_sub(in_memory));
        (_, at_line_end) = copy(&context, &out, move || {
            tail.map_or(Ok(()), |lines| file.skip_to_last(lines))?;
            Ok(file)
        })
        .await?;
    }
    if !handover.unwritten.is_empty() {
        at_line_end = handover.unwritten.ends_with(b"\n");
        out.send(handover.unwritten).await?;
    }
    let Some(mut subscription) = request.subscription else { return Ok(()) };
    let mut text = if at_line_end { String::new() } else { "\n".to_owned() };
    while let Some(event) = out.wait_for(subscription.recv()).await? {
        add_lines(&context, &event, handover.last, &mut text);
        while text.len() < PIECE
            && let Some(event) = subscription.try_recv()
        {
            add_lines(&context, &event, handover.last, &mut text);
        }
        if !text.is_empty() {
            out.send(std::mem::take(&mut text)).await?;
        }
    }
    Ok(())
}

/// Adds the lines of an event whose number is higher than `last`.
fn add_lines(context: &Context, event: &ServerEvent, last: u64, text: &mut String) {
    match &event.kind {
        EventKind::Console(output) => {
            for (_, line) in output.lines().filter(|(number, _)| *number > last) {
                text.push_str(&line);
                text.push('\n');
            }
            return;
        }
        EventKind::Daemon { line, number } if *number > last => text.push_str(&context.console.daemon_line(line)),
        EventKind::Lagged { missed } => {
            let gap = format!("up to {missed} lines are missing here: they were not read in time");
            text.push_str(&context.console.daemon_line(&gap));
        }
        _ => return,
    }
    text.push('\n');
}

/// Sends the install log, and again what was added to it.
async fn install(context: Arc<Context>, request: LogRequest, out: Out) -> io::Result<()> {
    let (id, mut subscription) = (request.id, request.subscription);
    let mut reader = open(&context, id, None, request.tail).await?;
    loop {
        if let Some(file) = reader.take() {
            let (file, _) = copy(&context, &out, move || Ok(file)).await?;
            reader = Some(file);
        }
        let Some(subscription) = &mut subscription else { return Ok(()) };
        loop {
            let Some(event) = out.wait_for(subscription.recv()).await? else { return Ok(()) };
            if matches!(event.kind, EventKind::Install(_) | EventKind::Lagged { .. }) {
                break;
            }
        }
        reader = open(&context, id, reader, None).await?;
    }
}

/// Opens the install log, unless it is still the file that was read before.
async fn open(
    context: &Context,
    id: ServerId,
    before: Option<LogReader>,
    tail: Option<u64>,
) -> io::Result<Option<LogReader>> {
    let layout = context.node.layout.clone();
    let open = move || {
        if before.as_ref().is_some_and(|before| !before.was_replaced(&layout.install_log(id))) {
            return Ok(before);
        }
        let mut reader = install_log::output(&layout, id).map_err(io::Error::other)?;
        if let (Some(reader), Some(lines)) = (&mut reader, tail) {
            reader.skip_to_last(lines)?;
        }
        Ok(reader)
    };
    context.store.blocking().run(open).await
}

/// Sends a log up to its end, and returns it and whether its last line is complete.
async fn copy(
    context: &Context,
    out: &Out,
    open: impl FnOnce() -> io::Result<LogReader> + Send + 'static,
) -> io::Result<(LogReader, bool)> {
    let blocking = context.store.blocking();
    let mut file = blocking.run(open).await?;
    let mut at_line_end = true;
    loop {
        let (next, piece) = blocking
            .run(move || {
                let piece = file.next_piece();
                (file, piece)
            })
            .await;
        file = next;
        let piece = piece?;
        let Some(last) = piece.last() else { return Ok((file, at_line_end)) };
        at_line_end = *last == b'\n';
        out.send(piece).await?;
    }
}

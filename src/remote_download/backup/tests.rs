//! Links to a web server of the test.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::progress::Progress;
use crate::remote_download::BackupReader;
use crate::tasks::Tasks;

/// What the server does with a connection: bytes that it sends, and whether it then waits instead of closing.
struct Answer(Vec<u8>, bool);

/// A web server. The answer depends on the path and the `Range`.
struct Web {
    address: SocketAddr,
    tasks: Tasks,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

impl Web {
    async fn start(answer: impl Fn(&str, Option<u64>) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, requests) = (Tasks::new(), Arc::new(Mutex::new(Vec::new())));
        let (seen, spawner, answer) = (requests.clone(), tasks.clone(), Arc::new(answer));
        tasks.spawn("web server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                spawner.spawn("connection", async move { serve(stream, address, &seen, &*answer).await });
            }
        });
        Self { address, tasks, requests }
    }

    fn link(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn serve(
    mut stream: TcpStream,
    own: SocketAddr,
    seen: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str, Option<u64>) -> Answer + Send + Sync),
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
    let text = String::from_utf8(request).unwrap().to_lowercase();
    let range = text.split_once("range: bytes=").map(|(_, rest)| rest.split_once('-').unwrap().0.parse().unwrap());
    let path = text.split(' ').nth(1).unwrap().to_owned();
    seen.lock().unwrap().push(text);
    let Answer(bytes, waits) = answer(&path, range);
    let here = own.to_string();
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head_text = String::from_utf8_lossy(&bytes[..head]).replace("{here}", &here);
    // The client may have gone.
    let _ = stream.write_all(head_text.as_bytes()).await;
    let _ = stream.write_all(&bytes[head..]).await;
    if waits {
        let _ = stream.read_buf(&mut Vec::new()).await;
    }
}

fn body() -> Vec<u8> {
    (0..50_000u32).flat_map(u32::to_le_bytes).collect()
}

/// The bytes of the object from `from` on, of which only `sent` are sent.
fn part_of(etag: &str, from: Option<u64>, sent: usize, waits: bool) -> Answer {
    let object = body();
    let offset = usize::try_from(from.unwrap_or(0)).unwrap();
    let status = match from {
        None => "200 OK\r\n".to_owned(),
        Some(from) => format!("206 Partial\r\nContent-Range: bytes {from}-{}/{}\r\n", object.len() - 1, object.len()),
    };
    let mut answer = format!(
        "HTTP/1.1 {status}{etag}Content-Type: application/x-gzip\r\nContent-Length: {}\r\n\r\n",
        object.len() - offset
    )
    .into_bytes();
    answer.extend_from_slice(&object[offset..(offset + sent).min(object.len())]);
    Answer(answer, waits)
}

fn here(entry: &str) -> BackupDownloads {
    BackupDownloads::new(AllowedHosts::parse([entry]).unwrap()).unwrap()
}

async fn read(stream: &mut BackupStream) -> Result<Vec<u8>, BackupLinkError> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[test]
fn links_are_checked_without_a_request() {
    let downloads = here("10.1.0.0/16");
    for (link, message) in [
        ("", "The provided backup link is not a valid URL."),
        ("backup.tar.gz", "The provided backup link is not a valid URL."),
        ("http://", "The provided backup link is not a valid URL."),
        ("http:///x", "The provided backup link is not a valid URL."),
        ("file:///etc/passwd", "The provided backup link must use HTTP or HTTPS."),
        ("ftp://1.1.1.1/x", "The provided backup link must use HTTP or HTTPS."),
        ("data:,x", "The provided backup link must use HTTP or HTTPS."),
        ("http://127.0.0.1/x", "The provided backup link resolves to a blocked address."),
        ("http://2130706433/x", "The provided backup link resolves to a blocked address."),
        ("http://0x7f.1/x", "The provided backup link resolves to a blocked address."),
        ("https://[::1]/x", "The provided backup link resolves to a blocked address."),
        ("https://[::ffff:10.2.0.1]/x", "The provided backup link resolves to a blocked address."),
        ("http://169.254.169.254/latest/meta-data", "The provided backup link resolves to a blocked address."),
        ("http://100.64.0.1/", "The provided backup link resolves to a blocked address."),
        ("http://198.18.0.1/", "The provided backup link resolves to a blocked address."),
        ("http://10.2.0.1/", "The provided backup link resolves to a blocked address."),
    ] {
        let error = downloads.check(link).unwrap_err();
        assert_eq!(error.to_string(), message, "{link}");
        assert!(error.is_rejection());
    }
    for link in ["https://s3.example.com/b?X-Amz-Signature=x", "http://1.1.1.1:9000/", "http://10.1.2.3/"] {
        downloads.check(link).unwrap();
    }
}

#[tokio::test]
async fn an_archive_is_read() {
    let web = Web::start(|path, from| match path {
        "/twice" => {
            Answer(b"HTTP/1.1 302 Found\r\nLocation: http://{here}/once\r\nContent-Length: 0\r\n\r\n".to_vec(), false)
        }
        "/once" => Answer(b"HTTP/1.1 307 Temporary\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n".to_vec(), false),
        _ => part_of("", from, usize::MAX >> 1, false),
    })
    .await;
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    for path in ["/b", "/twice"] {
        let mut stream = is_send(here("127.0.0.1").open(&web.link(path))).await.unwrap();
        assert_eq!(stream.length(), Some(200_000));
        assert_eq!(read(&mut stream).await.unwrap(), body());
        assert_eq!(stream.received(), 200_000);
    }
    let stream = here("127.0.0.1").open(&web.link("/b")).await.unwrap().into_stream();
    let chunks: Vec<Bytes> = futures_util::TryStreamExt::try_collect(stream).await.unwrap();
    assert_eq!(chunks.concat(), body());
}

#[tokio::test]
async fn a_blocking_thread_reads_and_is_cancelled() {
    let web = Web::start(|path, from| part_of("", from, if path == "/stalls" { 60_000 } else { 1 << 20 }, true)).await;
    let progress = Progress::new();
    let read = async |path: &str| {
        let stream = here("127.0.0.1").open(&web.link(path)).await.unwrap();
        let mut reader = BackupReader::new(stream, progress.clone());
        let read = move || {
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut all).map(|_| all)
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    };
    assert_eq!(read("/b").await.unwrap(), body());
    assert_eq!((progress.done(), progress.total()), (200_000, 200_000));
    let cancel = async {
        while progress.done() < 260_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        progress.cancel();
    };
    let (result, ()) = tokio::join!(read("/stalls"), cancel);
    assert!(result.is_err());
}

#[tokio::test]
async fn answers_that_are_no_archive_are_rejected() {
    let web = Web::start(|path, _| {
        let answer = match path {
            "/missing" => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "/expired" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            "/empty" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/partial" => "HTTP/1.1 206 Partial\r\nContent-Type: application/gzip\r\nContent-Length: 1\r\n\r\nx",
            "/page" => "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1\r\n\r\nx",
            "/untyped" => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            "/loop" => "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
            "/private" => "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n",
            "/file" => "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
            "/nowhere" => "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
            "/gzip" => "HTTP/1.1 200 OK\r\nContent-Type: Application/GZIP; x=y\r\nContent-Length: 1\r\n\r\nx",
            other => panic!("{other}"),
        };
        Answer(answer.as_bytes().to_vec(), false)
    })
    .await;
    let downloads = here("127.0.0.1");
    for (path, message) in [
        ("/missing", "The provided backup link returned an invalid response status: 404 Not Found"),
        ("/expired", "The provided backup link returned an invalid response status: 403 Forbidden"),
        ("/empty", "The provided backup link returned an invalid response status: 204 No Content"),
        ("/partial", "The provided backup link returned an invalid response status: 206 Partial Content"),
        ("/nowhere", "The provided backup link returned an invalid response status: 302 Found"),
        (
            "/page",
            "The provided backup link has the content type \"text/html; charset=utf-8\": expected application/x-gzip or \
             application/gzip.",
        ),
        (
            "/untyped",
            "The provided backup link has the content type \"\": expected application/x-gzip or application/gzip.",
        ),
        ("/loop", "The provided backup link redirects too many times."),
        ("/private", "The provided backup link resolves to a blocked address."),
        ("/file", "The provided backup link must use HTTP or HTTPS."),
    ] {
        let before = web.requests();
        let error = downloads.open(&web.link(path)).await.unwrap_err();
        assert_eq!(error.to_string(), message, "{path}");
        assert!(error.is_rejection());
        assert_eq!(web.requests() - before, if path == "/loop" { 11 } else { 1 });
    }
    assert_eq!(read(&mut downloads.open(&web.link("/gzip")).await.unwrap()).await.unwrap(), b"x");
}

#[tokio::test]
async fn names_are_allowed_by_their_name_or_by_all_their_addresses() {
    let web = Web::start(|_, from| part_of("", from, usize::MAX >> 1, false)).await;
    let link = format!("http://localhost:{}/b", web.address.port());
    here("LOCALHOST").open(&link).await.unwrap();
    for entry in ["example.com", "127.0.0.2"] {
        let error = here(entry).open(&link).await.unwrap_err();
        assert!(matches!(error, BackupLinkError::Blocked), "{entry}: {error}");
    }
    assert_eq!(web.requests(), 1, "nothing else was connected to");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = here("127.0.0.1").open(&format!("http://{gone}/b?secret")).await.unwrap_err();
    assert!(matches!(error, BackupLinkError::Transport(_)) && !error.is_rejection(), "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn a_broken_download_is_resumed() {
    let etag = "ETag: \"abc\"\r\n";
    // Each connection breaks or stalls after some bytes.
    let web = Web::start(move |path, from| part_of(etag, from, 60_000, path == "/stalls")).await;
    for path in ["/breaks", "/stalls"] {
        let downloads = here("127.0.0.1").with_stall_timeout(Duration::from_millis(200));
        let mut stream = downloads.open(&web.link(path)).await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), body(), "{path}");
    }
    let requests = web.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 8);
    assert!(
        requests[1].contains("range: bytes=60000-") && requests[1].contains("if-range: \"abc\""),
        "{}",
        requests[1]
    );
}

#[tokio::test]
async fn what_cannot_be_resumed_breaks_off() {
    let web = Web::start(|path, from| match (path, from) {
        // It is another object now.
        ("/changed", Some(_)) => part_of("ETag: \"new\"\r\n", None, usize::MAX >> 1, false),
        ("/expired", Some(_)) => Answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(), false),
        ("/weak", from) => part_of("ETag: W/\"abc\"\r\n", from, 60_000, false),
        ("/without", from) => part_of("", from, 60_000, false),
        (_, from) => part_of("ETag: \"abc\"\r\n", from, 60_000, false),
    })
    .await;
    for (path, requests) in [("/changed", 2), ("/expired", 2), ("/weak", 1), ("/without", 1)] {
        let before = web.requests();
        let mut stream = here("127.0.0.1").open(&web.link(path)).await.unwrap();
        let error = read(&mut stream).await.unwrap_err();
        assert!(matches!(error, BackupLinkError::BrokenOff { received: 60_000, .. }), "{path}: {error}");
        assert_eq!(web.requests() - before, requests, "{path}");
    }
}

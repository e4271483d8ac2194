//! A certificate authority that speaks the part of ACME (RFC 8555) that an order needs. It checks names as a real one does, by a
//! request to the challenge's path, and signs what it is asked to. Signatures of requests are not verified.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, date_time_ymd,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::super::super::accept::{Acceptor, Listener};
use super::super::super::limits::Limits;
use super::*;

/// What the authority is asked to do.
pub struct Authority {
    /// Its directory.
    pub directory: String,
    /// The certificate of its server, as a file and as a folder that keeps it.
    pub root: PathBuf,
    /// The certificate that signs others.
    pub ca: CertificateDer<'static>,
    pub state: Arc<Known>,
    _folder: TempDir,
    tasks: Tasks,
}

/// What the authority knows.
pub struct Known {
    base: String,
    /// The port that challenges are fetched from.
    http_port: u16,
    issuer: Issuer<'static, KeyPair>,
    pub accounts: AtomicU32,
    pub orders: AtomicU32,
    /// The years in which certificates are valid.
    pub years: Mutex<(i32, i32)>,
    nonces: AtomicU32,
    order: Mutex<OrderState>,
}

#[derive(Default)]
struct OrderState {
    name: String,
    /// The error of the check; `None` before it.
    checked: Option<Result<(), String>>,
    certificate: Option<String>,
}

const TOKEN: &str = "the-token";

impl Authority {
    /// Listens on a free port of this host; `http_port` takes the place of port 80.
    pub async fn start(http_port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, server.cert.pem()).unwrap();
        std::fs::write(&key, server.signing_key.serialize_pem()).unwrap();
        let files = crate::config::TlsFiles { cert: cert.clone(), key };
        let certificates = Certificates::load(&files, Duration::from_secs(60), NodeConditions::new(Clock::System));

        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap().der().clone();
        let state = Arc::new(Known {
            base: base.clone(),
            http_port,
            issuer: Issuer::new(params, ca_key),
            accounts: AtomicU32::new(0),
            orders: AtomicU32::new(0),
            years: Mutex::new((2020, 4000)),
            nonces: AtomicU32::new(0),
            order: Mutex::default(),
        });
        let router = Router::new()
            .route("/dir", get(directory))
            .route("/nonce", get(nonce))
            .route("/{*path}", post(serve))
            .with_state(state.clone());
        let tasks = Tasks::new();
        let acceptor = Acceptor::new(Listener::Tcp(listener, Some(certificates)), router, Limits::API, tasks.clone());
        tasks.spawn("authority", acceptor.run(CancellationToken::new()));
        Self { directory: format!("{base}/dir"), root: cert, ca, state, _folder: folder, tasks }
    }
}

impl Authority {
    /// Ends it: nothing answers any more.
    pub fn end(&self) {
        self.tasks.abort_all();
    }
}

async fn directory(State(known): State<Arc<Known>>) -> Response {
    let url = |name: &str| format!("{}/{name}", known.base);
    known.answer(
        StatusCode::OK,
        "",
        &json!({"newNonce": url("nonce"), "newAccount": url("account"), "newOrder": url("new-order"),
                "revokeCert": url("revoke"), "keyChange": url("key")}),
    )
}

async fn nonce(State(known): State<Arc<Known>>) -> Response {
    known.answer(StatusCode::OK, "", &json!({}))
}

async fn serve(State(known): State<Arc<Known>>, Path(path): Path<String>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let payload = BASE64.decode(request["payload"].as_str().unwrap()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap_or_default();
    match path.as_str() {
        "account" => {
            known.accounts.fetch_add(1, Ordering::SeqCst);
            known.answer(StatusCode::CREATED, "account/1", &json!({"status": "valid"}))
        }
        "new-order" => {
            known.orders.fetch_add(1, Ordering::SeqCst);
            let name = payload["identifiers"][0]["value"].as_str().unwrap().to_owned();
            *known.order.lock().unwrap() = OrderState { name, ..OrderState::default() };
            known.answer(StatusCode::CREATED, "order", &known.order())
        }
        "order" => known.answer(StatusCode::OK, "order", &known.order()),
        "authorization" => known.answer(StatusCode::OK, "", &known.authorization()),
        "challenge" => {
            let checked = known.check().await;
            known.order.lock().unwrap().checked = Some(checked);
            known.answer(StatusCode::OK, "", &json!({"type": "http-01", "url": format!("{}/challenge", known.base), "token": TOKEN, "status": "processing"}))
        }
        "finalize" => {
            let csr = BASE64.decode(payload["csr"].as_str().unwrap()).unwrap();
            let mut csr = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
            let (from, until) = *known.years.lock().unwrap();
            (csr.params.not_before, csr.params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
            known.order.lock().unwrap().certificate = Some(csr.signed_by(&known.issuer).unwrap().pem());
            known.answer(StatusCode::OK, "order", &known.order())
        }
        "certificate" => {
            let pem = known.order.lock().unwrap().certificate.clone().unwrap();
            ([("replay-nonce", known.nonce())], pem).into_response()
        }
        other => panic!("not served: {other}"),
    }
}

impl Known {
    fn nonce(&self) -> String {
        format!("nonce{}", self.nonces.fetch_add(1, Ordering::SeqCst))
    }

    fn answer(&self, status: StatusCode, location: &str, body: &Value) -> Response {
        let location = format!("{}/{location}", self.base);
        (status, [("replay-nonce", self.nonce()), ("location", location)], body.to_string()).into_response()
    }

    fn order(&self) -> Value {
        let order = self.order.lock().unwrap();
        let status = match (&order.checked, &order.certificate) {
            (Some(Err(_)), _) => "invalid",
            (None, _) => "pending",
            (Some(Ok(())), None) => "ready",
            (Some(Ok(())), Some(_)) => "valid",
        };
        let mut answer = json!({
            "status": status, "identifiers": [{"type": "dns", "value": order.name}],
            "authorizations": [format!("{}/authorization", self.base)], "finalize": format!("{}/finalize", self.base),
        });
        if order.certificate.is_some() {
            answer["certificate"] = json!(format!("{}/certificate", self.base));
        }
        answer
    }

    fn authorization(&self) -> Value {
        let order = self.order.lock().unwrap();
        let (status, error) = match &order.checked {
            None => ("pending", Value::Null),
            Some(Ok(())) => ("valid", Value::Null),
            Some(Err(error)) => ("invalid", json!({"type": "urn:ietf:params:acme:error:connection", "detail": error})),
        };
        let url = format!("{}/challenge", self.base);
        let of = |r#type: &str| json!({"type": r#type, "url": url, "token": TOKEN, "status": status, "error": error});
        json!({"identifier": {"type": "dns", "value": order.name}, "status": status, "challenges": [of("dns-01"), of("http-01")]})
    }

    /// Fetches the answer from this host, which every name leads to.
    async fn check(&self) -> Result<(), String> {
        let refused = |error: std::io::Error| format!("fetching the answer: {error}");
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).await.map_err(refused)?;
        let request =
            format!("GET /.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(refused)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(refused)?;
        // The token, and the thumbprint of the account's key.
        let right = answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\r\n\r\n{TOKEN}."));
        if right { Ok(()) } else { Err(format!("wrong answer: {answer}")) }
    }
}

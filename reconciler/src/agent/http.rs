//! What a running node shows over HTTP, its control socket, and the signals that it obeys.
//!
//! In: the desk. Out: a page to look at, `/metrics`, `/healthz`, `/readyz`, the JSON behind `rendezvip status`, `why` and
//! `wait`. Not here: what is shown (`desk`), the metrics' names (`metrics`). SIGTERM and SIGINT end the node, SIGHUP has
//! it read its keys again and look at its source. Nothing is changed over HTTP, and no answer waits for git or for the beat.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::control;
use super::desk::{Desk, Order};
use super::metrics;
use super::run::{CannotRun, Server};
use super::webhook::{self, Hook};
use crate::vip::Vip;

/// So many connections at a time; the next waits until one ends.
const CONNECTIONS: usize = 64;
/// So many of forges: each may hold a body in memory.
const HOOK_CONNECTIONS: usize = 8;
/// A connection ends after so long, whatever is said over it: one that is held open holds up nobody for longer.
const LIFETIME: Duration = Duration::from_secs(60);

/// Serves people at `address` and at the socket `control_path`, and forges at `hook`, until the process ends.
pub fn start(desk: Desk, address: SocketAddr, control_path: &Path, hook: Option<Hook>) -> Result<Server, CannotRun> {
    let explain = |error: io::Error| {
        CannotRun::Told(format!(
            "error[RV0602]: http {address} cannot be served: {error}\n  = help: `http:` in the node's own file sets address and port; `ss -ltnp` shows who has it"
        ))
    };
    let listener = TcpListener::bind(address).map_err(explain)?;
    listener.set_nonblocking(true).map_err(explain)?;
    let (orders, socket_file) = control::bind(control_path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(explain)?;
    let (stop, stopped) = channel();
    let serve = async move {
        let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
        else {
            return;
        };
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        let Ok(orders) = tokio::net::UnixListener::from_std(orders) else { return };
        tokio::spawn(control::serve(orders, desk.clone()));
        let bounded = Bounded { listener, free: Arc::new(Semaphore::new(CONNECTIONS)) };
        if let Some(hook) = hook {
            let router = webhook::router(&hook, desk.clone());
            let Ok(listener) = tokio::net::TcpListener::from_std(hook.listener) else { return };
            let bounded = Bounded { listener, free: Arc::new(Semaphore::new(HOOK_CONNECTIONS)) };
            tokio::spawn(async move { axum::serve(bounded, router).await });
        }
        let asked = desk.clone();
        tokio::spawn(async move { axum::serve(bounded, router(desk)).await });
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hup.recv() => {
                    let desk = asked.clone();
                    tokio::task::spawn_blocking(move || {
                        if let Err(error) = desk.order(Order::Reload) {
                            tracing::error!("the keys stay as they are: {error}");
                        }
                        desk.order(Order::Reconcile { accept_history: None })
                    });
                    continue;
                }
            }
            let _ = stop.send(());
        }
    };
    std::thread::Builder::new().name("http".to_owned()).spawn(move || runtime.block_on(serve)).map_err(explain)?;
    Ok(Server::new(stopped, socket_file))
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/why", get(why))
        .route("/runs", get(runs))
        .route("/pace", get(pace))
        .route("/metrics", get(numbers))
        .with_state(desk)
}

const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response()
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // It fetches from this node and from nowhere else, and nobody frames it.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, include_str!("page.html")).into_response()
}

async fn ready(State(desk): State<Desk>) -> Response {
    match desk.published() {
        Some(it) if it.snapshot.view.as_ref().is_some_and(|view| view.established) => "ok\n".into_response(),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "no established view\n").into_response(),
        None => starting(),
    }
}

async fn status(State(desk): State<Desk>) -> Response {
    match desk.published() {
        Some(it) => ([JSON], it.snapshot.to_json()).into_response(),
        None => starting(),
    }
}

#[derive(Deserialize)]
struct Which {
    vip: String,
}

async fn why(State(desk): State<Desk>, Query(which): Query<Which>) -> Response {
    let Some(published) = desk.published() else { return starting() };
    let Ok(vip) = which.vip.parse::<Vip>() else {
        return (StatusCode::NOT_FOUND, "error[RV0609]: that is no address that can be a VIP\n").into_response();
    };
    match published.why(vip).map(|why| serde_json::to_string(&why)) {
        Some(Ok(json)) => ([JSON], json).into_response(),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        None => (StatusCode::NOT_FOUND, format!("error[RV0609]: no pool declares {vip}\n")).into_response(),
    }
}

#[derive(Deserialize)]
struct WhichRevision {
    revision: String,
}

/// `true`, `false`, or `null` while git has not said yet.
async fn runs(State(desk): State<Desk>, Query(which): Query<WhichRevision>) -> Response {
    let answer = tokio::task::spawn_blocking(move || desk.runs(which.revision)).await.ok().flatten();
    let text = answer.map_or("null", |answer| if answer { "true" } else { "false" });
    ([JSON], text).into_response()
}

async fn pace(State(desk): State<Desk>) -> Response {
    match serde_json::to_string(&desk.pace()) {
        Ok(json) => ([JSON], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn numbers(State(desk): State<Desk>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics::encode(&desk) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A listener whose connections are bounded in number and in time.
struct Bounded {
    listener: tokio::net::TcpListener,
    free: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Mortal;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Mortal, SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = self.free.clone().acquire_owned().await else { continue };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    return (Mortal { stream, end: Box::pin(sleep(LIFETIME)), _permit: permit }, peer);
                }
                // Out of descriptors, most likely: some become free.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself.
struct Mortal {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Mortal {
    fn over(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(context).is_ready()
    }
}

fn too_late<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

impl AsyncRead for Mortal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over(context) {
            return too_late();
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Mortal {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.over(context) {
            return too_late();
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.over(context) {
            return too_late();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

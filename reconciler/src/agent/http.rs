//! What a running node shows over HTTP, and the signals that end it.
//!
//! In: the desk. Out: `/healthz`, `/readyz`, the JSON behind `rendezvip status`. Not here: what is shown (`desk`).

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::signal::unix::{SignalKind, signal};

use super::desk::Desk;
use super::run::{CannotRun, Server};

/// Serves until the process ends.
pub fn start(desk: Desk, address: SocketAddr) -> Result<Server, CannotRun> {
    let explain = |error: std::io::Error| {
        CannotRun::Told(format!(
            "error[RV0602]: http {address} cannot be served: {error}\n  = help: `http:` in the node's own file sets address and port; `ss -ltnp` shows who has it"
        ))
    };
    let listener = TcpListener::bind(address).map_err(explain)?;
    listener.set_nonblocking(true).map_err(explain)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(explain)?;
    let (stop, stopped) = channel();
    let serve = async move {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return;
        };
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        tokio::spawn(async move { axum::serve(listener, router(desk)).await });
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            let _ = stop.send(());
        }
    };
    std::thread::Builder::new().name("http".to_owned()).spawn(move || runtime.block_on(serve)).map_err(explain)?;
    Ok(Server::new(stopped))
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(desk)
}

async fn ready(State(desk): State<Desk>) -> Response {
    match desk.published() {
        Some(it) if it.snapshot.view.as_ref().is_some_and(|view| view.established) => "ok\n".into_response(),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "no established view\n").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}

async fn status(State(desk): State<Desk>) -> Response {
    match desk.published() {
        Some(it) => ([("content-type", "application/json")], it.snapshot.to_json()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}

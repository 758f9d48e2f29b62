//! What a running node shows over HTTP, its control socket, and the signals that it obeys.
//!
//! In: the desk. Out: `/healthz`, `/readyz`, the JSON behind `rendezvip status`. Not here: what is shown (`desk`).
//! SIGTERM and SIGINT end the node, SIGHUP has it look at its source.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::channel;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::signal::unix::{SignalKind, signal};

use super::control;
use super::desk::{Desk, Order};
use super::run::{CannotRun, Server};

/// Serves people at `address` and at the socket `control_path` until the process ends.
pub fn start(desk: Desk, address: SocketAddr, control_path: &Path) -> Result<Server, CannotRun> {
    let explain = |error: std::io::Error| {
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
        let asked = desk.clone();
        tokio::spawn(async move { axum::serve(listener, router(desk)).await });
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hup.recv() => {
                    let desk = asked.clone();
                    tokio::task::spawn_blocking(move || desk.order(Order::Reconcile { accept_history: None }));
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

//! A small web site to work on, served on loopback so that the quickstart needs no network: a login form, and behind
//! it a table of open invoices.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::api;

/// Who may log in.
pub(super) const USER: &str = "demo";

#[derive(Debug)]
struct Portal {
    password: String,
    session: String,
}

/// Serves the portal on a free port of loopback; `password` opens it and `session` is the cookie it then sets.
pub(super) async fn serve(
    password: String,
    session: String,
    (shutdown, tasks): (&CancellationToken, &TaskTracker),
) -> anyhow::Result<SocketAddr> {
    let router = Router::new()
        .route("/", get(login_page))
        .route("/login", post(login))
        .route("/invoices", get(invoices))
        .with_state(Arc::new(Portal { password, session }));
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("a port for the example portal")?;
    let address = listener.local_addr()?;
    tasks.spawn(api::serve(listener, router, shutdown.clone(), tasks.clone()));
    Ok(address)
}

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto}}\
         td,th{{padding:.3rem 1rem;text-align:left;border-bottom:1px solid #ccc}}\
         label{{display:block;margin:.6rem 0}}</style><h1>{title}</h1>{body}</html>"
    ))
}

const FORM: &str = "<form method=\"post\" action=\"/login\">\
    <label>User <input name=\"username\" autocomplete=\"username\"></label>\
    <label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\"></label>\
    <button type=\"submit\">Log in</button></form>";

async fn login_page() -> Html<String> {
    page("Example portal", FORM)
}

async fn login(State(portal): State<Arc<Portal>>, body: String) -> Response {
    let given: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let has = |name: &str, value: &str| given.iter().any(|(n, v)| n == name && v == value);
    if has("username", USER) && has("password", &portal.password) {
        let cookie = format!("session={}; HttpOnly; SameSite=Lax", portal.session);
        return (
            StatusCode::SEE_OTHER,
            [
                (header::LOCATION, "/invoices".to_owned()),
                (header::SET_COOKIE, cookie),
            ],
        )
            .into_response();
    }
    let refused = format!("<p role=\"alert\">The user or the password is wrong.</p>{FORM}");
    (StatusCode::UNAUTHORIZED, page("Example portal", &refused)).into_response()
}

async fn invoices(State(portal): State<Arc<Portal>>, headers: HeaderMap) -> Response {
    let cookies = headers
        .get(header::COOKIE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let wanted = format!("session={}", portal.session);
    if !cookies.split("; ").any(|cookie| cookie == wanted) {
        return (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
    }
    let rows = [
        ("INV-1041", "2026-10-01", "118.20"),
        ("INV-1057", "2026-10-15", "64.00"),
        ("INV-1060", "2026-11-02", "512.75"),
    ];
    let rows: String = rows
        .iter()
        .map(|(number, due, amount)| format!("<tr><td>{number}</td><td>{due}</td><td>{amount}</td></tr>"))
        .collect();
    page(
        "Account 4711",
        &format!(
            "<table aria-label=\"Open items\"><thead><tr><th>Invoice</th><th>Due</th><th>Amount</th></tr></thead>\
             <tbody>{rows}</tbody></table>"
        ),
    )
    .into_response()
}

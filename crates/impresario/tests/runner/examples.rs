//! The examples do what they say, against pages that are served here.

use std::path::PathBuf;

use impresario::runner::{FailureClass, RunRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Run, Stage, params, request};

const LOGIN: &str = r#"<form action="/account"><label>User <input name="user"></label>
<label>Password <input type="password" name="password"></label><button>Log in</button></form>"#;
const ACCOUNT: &str = r#"<h1>Anna</h1><table><caption>Open items</caption><thead><tr><th>No<th>Due<th>Amount</thead>
<tbody><tr><td>R-1<td>2026-01-31<td>12.50<tr><td>R-2<td>2026-02-28<td>30</table>"#;
const REFUSED: &str = r#"<p role="alert">Wrong password</p>"#;

/// Answers every request with the page of its path.
async fn serve(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            return;
        };
        let mut head = vec![0; 8192];
        let read = stream.read(&mut head).await.unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..read]).into_owned();
        let (status, page) = match head.split(' ').nth(1).unwrap_or_default() {
            "/" => ("200 OK", LOGIN),
            "/account?user=anna&password=s3cret" => ("200 OK", ACCOUNT),
            path if path.starts_with("/account") => ("200 OK", REFUSED),
            _ => ("404 Not Found", "nothing here"),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

struct Site {
    stage: Stage,
    url: String,
    listener: Option<TcpListener>,
}

impl Site {
    async fn new(stage: Stage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self {
            stage,
            url,
            listener: Some(listener),
        }
    }

    fn request(&self, name: &str, input: Value) -> RunRequest {
        let from = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/workflows")
            .join(name);
        let to = self.stage.dir.path().join(name);
        std::fs::create_dir_all(&to).unwrap();
        for file in ["package.json", "index.js"] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
        let mut request = request(&to, name);
        request.params = params(input);
        request
    }

    async fn run(&mut self, request: RunRequest) -> Run {
        let listener = self.listener.take().unwrap();
        tokio::select! {
            run = self.stage.run(request) => run,
            () = serve(listener) => panic!("the site ended"),
        }
    }
}

#[tokio::test]
async fn portal_login_reads_the_open_items() {
    let mut site = Site::new(Stage::new()).await;
    let mut request = site.request("portal-login", json!({"portal_url": site.url, "user": "anna"}));
    request.credentials = [("portal_password".to_owned(), "s3cret".to_owned())].into();
    let run = site.run(request).await;
    assert_eq!(
        run.value(),
        json!({
            "account": "Anna", "total": 42.5,
            "items": [{"number": "R-1", "due": "2026-01-31", "amount": 12.5}, {"number": "R-2", "due": "2026-02-28", "amount": 30}],
        })
    );
    assert!(
        run.texts().contains(&("info", "2 open items")),
        "{:?}",
        run.texts()
    );
}

#[tokio::test]
async fn portal_login_tells_a_wrong_password() {
    let mut site = Site::new(Stage::new()).await;
    let mut request = site.request("portal-login", json!({"portal_url": site.url, "user": "anna"}));
    request.credentials = [("portal_password".to_owned(), "no".to_owned())].into();
    let run = site.run(request).await;
    let failure = run.failure(FailureClass::Workflow);
    assert_eq!(failure.message, "the portal refused the login: Wrong password");
}

#[tokio::test]
async fn table_scrape_makes_rows_of_a_table() {
    let mut site = Site::new(Stage::new()).await;
    let url = format!("{}/account?user=anna&password=s3cret", site.url);
    let request = site.request("table-scrape", json!({"url": url, "limit": 1}));
    let run = site.run(request).await;
    assert_eq!(
        run.value(),
        json!({"title": "", "rows": [{"No": "R-1", "Due": "2026-01-31", "Amount": "12.50"}]})
    );
}

#[tokio::test]
async fn http_check_needs_no_browser() {
    let mut site = Site::new(Stage::pageless()).await;
    let request = site.request(
        "http-check",
        json!({"url": format!("{}/gone", site.url), "status": 404, "text": "nothing"}),
    );
    assert_eq!(site.run(request).await.value()["status"], 404);
    let mut site = Site::new(Stage::pageless()).await;
    let request = site.request("http-check", json!({"url": site.url, "text": "absent"}));
    let run = site.run(request).await;
    assert!(
        run.failure(FailureClass::Workflow)
            .message
            .ends_with("but without \"absent\"")
    );
}

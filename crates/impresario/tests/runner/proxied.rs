//! Which proxy a run's browser goes through: the residential one that it asks for, else the operator's default, else none.

use std::sync::{Arc, Mutex};

use impresario::runner::RunOutcome;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::Stage;

#[expect(clippy::disallowed_methods, reason = "the listener ends with the test")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// A proxy that answers everything itself, and asks for a name first where `asks` says so: the heads of all requests.
async fn proxy(asks: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let named = head.to_ascii_lowercase().contains("\r\nproxy-authorization: ");
                seen.lock().unwrap().push(head);
                let answer = match asks && !named {
                    true => "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\n\
                             content-length: 0\r\nconnection: close\r\n\r\n"
                        .to_owned(),
                    false => {
                        let page = "<title>by proxy</title>";
                        format!(
                            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                            page.len()
                        )
                    }
                };
                // The browser may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, heads)
}

const VISIT: &str = "export const w = workflow('w', async ({ page }) => {
    await page.goto('http://nobody.invalid/');
    return page.title();
});";

fn in_california() -> impresario_api::ResidentialProxy {
    impresario_api::ResidentialProxy {
        country: "US".to_owned(),
        state: Some("CA".to_owned()),
        city: None,
        zip: None,
        asn: None,
    }
}

#[tokio::test]
async fn the_operators_default_holds_unless_a_run_goes_past_it() {
    let (address, heads) = proxy(false).await;
    let stage = Stage::with(|settings| settings.default_proxy = Some(format!("http://{address}")));
    assert_eq!(stage.run(stage.request(VISIT)).await.value(), "by proxy");
    // The browser asks for things of its own as well.
    let visits = || {
        let heads = heads.lock().unwrap();
        let ours = heads
            .iter()
            .filter(|head| head.starts_with("GET http://nobody.invalid/ "));
        ours.count()
    };
    assert_eq!(visits(), 1);
    let mut request = stage.request(VISIT);
    request.disable_default_proxy = true;
    let run = stage.run(request).await;
    assert!(
        !matches!(run.outcome, RunOutcome::Completed(_)),
        "{:?}",
        run.outcome
    );
    assert_eq!(visits(), 1, "nothing more went through it");
}

#[tokio::test]
async fn a_residential_one_goes_before_it_with_the_place_in_its_name() {
    let ((default, not_used), (residential, heads)) = (proxy(false).await, proxy(true).await);
    let stage = Stage::with(|settings| {
        settings.default_proxy = Some(format!("http://{default}"));
        let template = format!("http://u-cc-{{country}}[-st-{{state}}][-city-{{city}}]:pw@{residential}");
        settings.residential_proxy = Some(template);
    });
    let mut request = stage.request(VISIT);
    request.residential_proxy = Some(in_california());
    assert_eq!(stage.run(request).await.value(), "by proxy");
    // `u-cc-US-st-CA:pw` in base64.
    let named = "proxy-authorization: basic dS1jYy1VUy1zdC1DQTpwdw==".to_ascii_lowercase();
    let heads = heads.lock().unwrap().clone();
    assert!(
        heads
            .iter()
            .any(|head| head.to_ascii_lowercase().contains(&named)),
        "{heads:?}"
    );
    assert_eq!(not_used.lock().unwrap().len(), 0);
}

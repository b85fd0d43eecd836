//! Runs with a page.

use impresario::runner::{FailureClass, NO_CHROMIUM};
use serde_json::json;

use crate::support::{Stage, params};

#[tokio::test]
async fn a_workflow_reads_its_start_page_with_its_input_and_credentials() {
    let stage = Stage::new();
    let mut request = stage.request(
        r#"export const workflows = { w: workflow("w", async ({ page, session }, input) => ({
          session, input, title: await page.title(), text: await page.locator("p").innerText(),
          size: await page.evaluate(() => [innerWidth, innerHeight]),
        })) };"#,
    );
    request.start_url = Some("data:text/html,<title>Hi</title><p>there</p>".to_owned());
    request.params = params(json!({"n": 1}));
    request.credentials = [("portal_password".to_owned(), "s3cret".to_owned())].into();
    let run = stage.run(request).await;
    assert_eq!(
        run.value(),
        json!({
            "session": "job-1",
            "input": {"n": 1, "credentials": {"portal_password": "s3cret"}},
            "title": "Hi", "text": "there", "size": [1366, 768],
        })
    );
    assert!(run.ready);
    assert_eq!(stage.leftovers(), 0);
}

#[tokio::test]
async fn the_viewport_is_the_requests() {
    let stage = Stage::new();
    let mut request = stage.request(
        "export default workflow('w', ({ page }) => page.evaluate(() => [innerWidth, innerHeight]));",
    );
    request.viewport = Some(impresario_api::Viewport {
        width: 640,
        height: 480,
    });
    assert_eq!(stage.run(request).await.value(), json!([640, 480]));
}

#[tokio::test]
async fn a_failing_page_leaves_a_screenshot_and_a_message_without_colours() {
    let stage = Stage::new();
    let shot = stage.dir.path().join("shot.png");
    let mut request = stage.request(
        r##"export const w = workflow("w", async ({ page }) => {
          await page.setContent("<h1>Here</h1>");
          await page.click("#missing", { timeout: 300 });
        });"##,
    );
    request.screenshot = Some(shot.clone());
    let run = stage.run(request).await;
    let failure = run.failure(FailureClass::Workflow);
    assert!(
        failure.message.contains("Timeout 300ms exceeded"),
        "{}",
        failure.message
    );
    assert!(!failure.message.contains('\u{1b}'), "{:?}", failure.message);
    assert!(
        failure.stack.as_deref().unwrap().contains("index.js"),
        "{:?}",
        failure.stack
    );
    assert!(std::fs::read(shot).unwrap().starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn without_chromium_a_workflow_that_uses_no_page_runs_and_one_that_does_says_why_not() {
    let stage = Stage::pageless();
    assert_eq!(
        stage
            .handler("return { sum: 1 + 1, session: ctx.session, page: typeof ctx.page };")
            .await
            .value(),
        json!({"sum": 2, "session": "job-1", "page": "object"})
    );
    let run = stage.handler("await ctx.page.goto('about:blank');").await;
    let failure = run.failure(FailureClass::Configuration);
    assert_eq!(failure.message, NO_CHROMIUM);
    assert!(failure.started);
}

#[tokio::test]
async fn a_chromium_that_does_not_start_fails_before_the_workflow_does() {
    let stage = Stage::with(|settings| settings.chromium = Some("/bin/false".into()));
    let run = stage.handler("return 1;").await;
    let failure = run.failure(FailureClass::Browser);
    assert!(
        failure.message.starts_with("Chromium could not be started"),
        "{}",
        failure.message
    );
    assert!(!failure.started && !run.ready);
}

#[tokio::test]
async fn a_browser_that_is_lost_is_told_from_a_workflow_that_fails() {
    let stage = Stage::new();
    let crash = r#"
        const session = await ctx.page.context().browser().newBrowserCDPSession();
        await session.send("Browser.crash").catch(() => {});
        await ctx.page.title();
    "#;
    let run = stage.handler(crash).await;
    let failure = run.failure(FailureClass::Browser);
    assert!(failure.message.contains("closed"), "{}", failure.message);
}

#[tokio::test]
async fn a_start_url_that_cannot_be_opened_is_the_browsers_failure() {
    let stage = Stage::new();
    let mut request = stage.request("export const w = workflow('w', () => 1);");
    request.start_url = Some("http://127.0.0.1:1/".to_owned());
    let run = stage.run(request).await;
    let failure = run.failure(FailureClass::Browser);
    assert!(
        failure.message.contains("the start URL could not be opened"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_residential_proxy_that_is_not_configured_says_what_to_set() {
    let stage = Stage::new();
    let mut request = stage.request("export const w = workflow('w', () => 1);");
    request.residential_proxy = Some(impresario_api::ResidentialProxy {
        country: "US".to_owned(),
        state: None,
        city: None,
        zip: None,
        asn: None,
    });
    let run = stage.run(request).await;
    let failure = run.failure(FailureClass::Configuration);
    assert!(
        failure.message.contains("IMPRESARIO_RESIDENTIAL_PROXY"),
        "{}",
        failure.message
    );
    assert!(!failure.started);
}

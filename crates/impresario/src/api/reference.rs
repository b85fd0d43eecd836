//! `/openapi.json` and the page at `/docs` that shows it: no key, no envelope, and nothing from anywhere else.
//!
//! The page is Swagger UI, whose files come with a crate as the archive that its makers publish. The content policy
//! lets the page load and ask nothing but this server.

use std::{
    collections::HashMap,
    io::{Cursor, Read as _},
    sync::LazyLock,
};

use axum::{
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use impresario_api::openapi;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

use super::{ApiError, envelope::json_response, values};

/// The files of Swagger UI that the page asks for, and what they are.
const FILES: [(&str, &str); 3] = [
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("favicon-32x32.png", "image/png"),
];

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Impresario: the HTTP API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="reference"></div>
<noscript>This page needs JavaScript; the document that it shows is at <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/page.js"></script>
</body>
</html>
"#;

/// In a file of its own, because the content policy lets no script stand in the page.
const SCRIPT: &str = r##"SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,
});
"##;

/// Swagger UI writes styles and pictures into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    // It has no map with keys other than strings, the one thing that could fail.
    serde_json::to_vec(&openapi::document())
        .unwrap_or_default()
        .into()
});

static UNPACKED: LazyLock<HashMap<&'static str, Bytes>> = LazyLock::new(|| {
    let names = FILES.map(|(name, _)| name);
    names
        .into_iter()
        .filter_map(|name| Some((name, unpack(name)?)))
        .collect()
});

/// The document.
pub(super) async fn document() -> Response {
    json_response(StatusCode::OK, DOCUMENT.clone())
}

/// Where people look for the page.
pub(super) async fn to_page() -> Redirect {
    Redirect::permanent("/docs/")
}

/// The page.
pub(super) async fn page() -> Response {
    file("text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes()))
}

/// What the page asks for.
pub(super) async fn part(Path(name): Path<String>) -> Result<Response, ApiError> {
    if name == "page.js" {
        return Ok(file(
            "text/javascript; charset=utf-8",
            Bytes::from_static(SCRIPT.as_bytes()),
        ));
    }
    // The first time takes some milliseconds' work: not on a thread that answers others.
    let unpacked = tokio::task::spawn_blocking(|| &*UNPACKED)
        .await
        .map_err(ApiError::internal)?;
    let found = FILES.iter().find(|(file, _)| *file == name);
    match found.and_then(|(name, kind)| Some((kind, unpacked.get(name)?))) {
        Some((kind, bytes)) => Ok(file(kind, bytes.clone())),
        None => {
            let name = values::quoted(&name);
            Err(ApiError::not_found(format!("the page /docs/ has no part {name}")))
        }
    }
}

fn file(kind: &'static str, bytes: Bytes) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Another version of the program has other files under the same names.
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, max-age=300"),
        ),
    ];
    (headers, Body::from(bytes)).into_response()
}

/// One file of the archive, in which everything stands below a directory that has the version in its name.
fn unpack(name: &str) -> Option<Bytes> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).ok()?;
    let ending = format!("/dist/{name}");
    let names: Vec<_> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .collect();
    let whole = names.into_iter().find(|file| file.ends_with(&ending))?;
    let mut bytes = Vec::new();
    archive.by_name(&whole).ok()?.read_to_end(&mut bytes).ok()?;
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_what_the_page_asks_for() {
        for (name, _) in FILES {
            assert!(
                UNPACKED.get(name).is_some_and(|bytes| bytes.len() > 100),
                "{name}"
            );
            assert!(PAGE.contains(&format!("\"/docs/{name}\"")), "{name}");
        }
        assert_eq!(PAGE.matches("\"/docs/").count(), FILES.len() + 1, "and page.js");
        let document: serde_json::Value = serde_json::from_slice(&DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
    }
}

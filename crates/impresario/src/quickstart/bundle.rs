//! The example workflow that the quickstart deploys: the one in `examples/workflows/portal-login`, packed as any
//! client packs a bundle.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

/// The workflow's name.
pub(super) const WORKFLOW: &str = "portal-login";
/// The credential it declares.
pub(super) const CREDENTIAL: &str = "portal_password";

const FILES: [(&str, &str); 2] = [
    (
        "package.json",
        include_str!("../../../../examples/workflows/portal-login/package.json"),
    ),
    (
        "index.js",
        include_str!("../../../../examples/workflows/portal-login/index.js"),
    ),
];

/// The input it takes.
pub(super) fn params(portal_url: &str, user: &str) -> Value {
    json!({"portal_url": portal_url, "user": user})
}

/// Its files as a gzip-compressed tar, base64.
pub(super) fn packed() -> std::io::Result<String> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in FILES {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(STANDARD.encode(archive.into_inner()?.finish()?))
}

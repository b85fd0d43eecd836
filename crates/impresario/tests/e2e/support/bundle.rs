//! Bundles, packed as the official client packs them: a gzip tar whose entries begin with `./`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use tar::{EntryType, Header};

/// What every small bundle begins with: a workflow written by hand, without libretto.
pub(crate) const BRAND: &str = r#"const B = Symbol.for("libretto.workflow");
const workflow = (name, run, more = {}) => ({ ...more, [B]: true, name, run });
"#;

/// The source of one workflow with this name and this body of `run({ page, session }, input)`.
pub(crate) fn workflow(name: &str, body: &str) -> String {
    format!(
        "export const w_{} = workflow({name:?}, async (ctx, input) => {{ {body} }});\n",
        name.replace('-', "_")
    )
}

/// Files to be deployed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bundle {
    entries: Vec<(String, EntryType, Vec<u8>)>,
}

impl Bundle {
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// `package.json`, and an `index.js` of [`BRAND`] and `source`.
    pub(crate) fn of(source: &str) -> Self {
        Self::empty()
            .directory("./")
            .file("./package.json", r#"{"type":"module"}"#)
            .file("./index.js", &format!("{BRAND}{source}"))
    }

    /// One workflow, see [`workflow`].
    pub(crate) fn with(name: &str, body: &str) -> Self {
        Self::of(&workflow(name, body))
    }

    /// Adds the list of workflows that the official client puts beside the code.
    pub(crate) fn manifest(self, workflows: &Value) -> Self {
        let text = serde_json::json!({"workflows": workflows}).to_string();
        self.file("./.libretto-workflows.json", &text)
    }

    /// Adds a file under exactly this name, however wrong it is.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        self.entry(name, EntryType::Regular, text.as_bytes())
    }

    /// A symbolic link, which no bundle may have.
    pub(crate) fn link(mut self, name: &str, to: &str) -> Self {
        self.entries
            .push((name.to_owned(), EntryType::Symlink, to.as_bytes().to_vec()));
        self
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, b"")
    }

    fn entry(mut self, name: &str, kind: EntryType, bytes: &[u8]) -> Self {
        self.entries.push((name.to_owned(), kind, bytes.to_vec()));
        self
    }

    pub(crate) fn entry_point(&self) -> &'static str {
        "index.js"
    }

    /// The archive, in base64.
    pub(crate) fn packed(&self) -> String {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, kind, bytes) in &self.entries {
            let mut header = Header::new_gnu();
            // Not `set_path`: it tidies names up, and refuses the bad ones that some tests need.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory {
                0o755
            } else {
                0o644
            });
            let mut content = bytes.as_slice();
            if *kind == EntryType::Symlink {
                header.set_link_name_literal(content).unwrap();
                content = &[];
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content).unwrap();
        }
        STANDARD.encode(archive.into_inner().unwrap().finish().unwrap())
    }
}

//! What a bundle says of its workflows in `.libretto-workflows.json`.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::{BuildError, DiscoveredWorkflow, io_error};

const NAME: &str = ".libretto-workflows.json";
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Fields that we do not know are for other readers of it.
#[derive(Deserialize)]
struct Manifest {
    workflows: Vec<DiscoveredWorkflow>,
}

/// The workflows that the manifest lists; `None` where there is no manifest.
pub(super) fn read(dir: &Path) -> Result<Option<Vec<DiscoveredWorkflow>>, BuildError> {
    let path = dir.join(NAME);
    let size = match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Err(BuildError::Manifest("it is not a file".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path, error)),
    };
    if size > BYTES_MAX {
        return Err(BuildError::Manifest(format!(
            "it has {size} bytes; at most {BYTES_MAX} are read"
        )));
    }
    let text = std::fs::read(&path).map_err(|e| io_error(&path, e))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|e| BuildError::Manifest(e.to_string()))?;
    Ok(Some(manifest.workflows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_clients_manifest_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        let text = r#"{"version":2,"workflows":[
            {"name":"a","credentialNames":["portal_password"],"inputSchema":{"type":"object"},"authProfileName":"x",
             "startUrl":"https://example.com/","gpu":true,"viewport":{"width":800,"height":600}},
            {"name":"b","credentialNames":null,"viewport":null}]}"#;
        std::fs::write(dir.path().join(NAME), text).unwrap();
        let told = read(dir.path()).unwrap().unwrap();
        assert_eq!(told[0].credential_names, ["portal_password"]);
        assert_eq!(told[0].viewport.map(|v| (v.width, v.height)), Some((800, 600)));
        assert_eq!(
            told[1],
            DiscoveredWorkflow {
                name: "b".into(),
                ..Default::default()
            }
        );
        std::fs::write(dir.path().join(NAME), r#"{"workflows":[{"title":"a"}]}"#).unwrap();
        assert!(
            read(dir.path())
                .unwrap_err()
                .to_string()
                .contains("missing field `name`")
        );
    }
}

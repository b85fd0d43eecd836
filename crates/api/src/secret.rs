//! A text that must not end up in a log.

use serde::{Deserialize, Serialize};

/// A secret of a request or an answer. On the wire it is a plain string; `Debug` shows that there is one, and nothing
/// of it.
///
/// ```
/// let secret = impresario_api::Secret::from("hunter2");
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// assert_eq!(secret.expose(), "hunter2");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use crate::{CreateJob, CreateSchedule, CreateWebhook, CreatedWebhook, CredentialValue};

    #[test]
    fn what_carries_a_secret_does_not_show_it() {
        let secret = || Some("hunter2".into());
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:#?}",
            CreateSchedule {
                callback_secret: secret(),
                ..CreateSchedule::default()
            },
            CreateJob {
                callback_secret: secret(),
                ..CreateJob::default()
            },
            CreateWebhook {
                signing_secret: secret(),
                ..CreateWebhook::default()
            },
            CreatedWebhook {
                success: true,
                webhook_endpoint_id: String::new(),
                message: String::new(),
                signing_secret: secret(),
            },
            CredentialValue {
                id: String::new(),
                value: "hunter2".into(),
            },
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches("Secret(…)").count(), 5, "{shown}");
    }

    #[test]
    fn on_the_wire_it_is_a_string() {
        let text = r#"{"id":"1","value":"hunter2"}"#;
        let value: CredentialValue = serde_json::from_str(text).unwrap();
        assert_eq!(value.value.expose(), "hunter2");
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
    }
}

//! Names: in comes a host name, out go those of its addresses that the gate lets through.
//!
//! The client connects to exactly the addresses that it is given here, so a name that answers differently a moment
//! later gains nothing.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::delivery::{
    gate::{Gate, SETTING},
    lookups::LOOKUPS,
};

/// The addresses of a name, some time later.
pub type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// A name service.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of `name`. An error and an empty answer both mean that it cannot be reached.
    fn lookup(&self, name: String) -> Addresses;
}

/// The name service of the machine: its hosts file, its resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> Addresses {
        Box::pin(LOOKUPS.find(name, |name| {
            let found = (name, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        }))
    }
}

/// The gate let none of a name's addresses through. It does not say which they were: what a name inside the
/// operator's network resolves to is not for tenants to learn.
#[derive(Debug)]
pub(crate) struct Refused {
    name: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` resolves to no public address; an operator can allow networks with {SETTING}",
            self.name
        )
    }
}

impl std::error::Error for Refused {}

/// A name service behind the gate.
pub(crate) struct GatedResolver<L> {
    gate: Arc<Gate>,
    lookup: L,
}

impl<L: Lookup> GatedResolver<L> {
    pub(crate) fn new(gate: Arc<Gate>, lookup: L) -> Self {
        Self { gate, lookup }
    }
}

impl<L: Lookup> Resolve for GatedResolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let gate = Arc::clone(&self.gate);
        let found = self.lookup.lookup(name.clone());
        Box::pin(async move {
            let found = found.await?;
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
            }
            // Port 0 means: the port of the URL.
            let open: Vec<_> = found
                .into_iter()
                .filter(|ip| gate.allows(*ip))
                .map(|ip| SocketAddr::new(ip, 0))
                .collect();
            if open.is_empty() {
                return Err(Refused { name }.into());
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(io::Result<Vec<IpAddr>>);

    impl Lookup for Fixed {
        fn lookup(&self, _: String) -> Addresses {
            let answer = match &self.0 {
                Ok(found) => Ok(found.clone()),
                Err(error) => Err(error.kind().into()),
            };
            Box::pin(async { answer })
        }
    }

    async fn resolve(lookup: impl Lookup, name: &str) -> Result<Vec<String>, String> {
        let gate = Gate::new(vec!["10.1.0.0/16".parse().unwrap()]);
        let resolver = GatedResolver::new(Arc::new(gate), lookup);
        match resolver.resolve(name.parse().unwrap()).await {
            Ok(found) => Ok(found.map(|address| address.ip().to_string()).collect()),
            Err(error) if error.is::<Refused>() => Err(format!("refused: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn answer(found: &[&str]) -> Result<Vec<String>, String> {
        let found = found.iter().map(|ip| ip.parse().unwrap()).collect();
        resolve(Fixed(Ok(found)), "hooks.test").await
    }

    #[tokio::test]
    async fn only_allowed_addresses_come_out() {
        let found = answer(&[
            "127.0.0.1",
            "8.8.8.8",
            "::ffff:8.8.4.4",
            "10.1.2.3",
            "10.2.2.3",
            "2606:4700::1",
        ])
        .await;
        assert_eq!(found.unwrap(), ["8.8.8.8", "10.1.2.3", "2606:4700::1"]);
    }

    #[tokio::test]
    async fn none_left_is_refused_without_telling_them() {
        let refused = answer(&["192.168.7.9", "::1", "169.254.169.254"])
            .await
            .unwrap_err();
        assert!(
            refused.starts_with("refused: `hooks.test`") && !refused.contains("192"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn an_error_and_an_empty_answer_are_failures() {
        assert!(!answer(&[]).await.unwrap_err().starts_with("refused"));
        let broken = Fixed(Err(io::ErrorKind::ConnectionRefused.into()));
        assert!(
            !resolve(broken, "hooks.test")
                .await
                .unwrap_err()
                .starts_with("refused")
        );
    }

    #[tokio::test]
    async fn the_names_of_this_machine_are_refused() {
        let refused = resolve(SystemLookup, "localhost").await.unwrap_err();
        assert!(refused.starts_with("refused"), "{refused}");
    }
}

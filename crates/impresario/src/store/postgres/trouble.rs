//! Why a connection could not be made, for people: in comes what the driver says, out goes one sentence that names the
//! place, the database and what to do, and whether it may be better elsewhere or later.

use std::{error::Error as _, io, time::Duration};

use rustls::{AlertDescription, CertificateError};
use tokio_postgres::error::{DbError, SqlState};

use super::target::{Endpoint, Host, SslMode, Target};
use crate::store::StoreError;

/// A connection that could not be made.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) sentence: String,
    /// Whether another host may do, or this one later.
    pub(super) passing: bool,
}

/// One attempt: what is told is told about it.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) target: &'a Target,
    pub(super) endpoint: &'a Endpoint,
    pub(super) mode: SslMode,
    /// Why the password file was not used, where that was so.
    pub(super) passfile: Option<&'a str>,
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble.passing {
            true => Self::Unreachable(trouble.sentence),
            false => Self::Open(trouble.sentence),
        }
    }
}

impl Attempt<'_> {
    /// It will never work as things are.
    pub(super) fn never(&self, what: impl std::fmt::Display) -> Trouble {
        self.trouble(false, what)
    }

    /// It may work elsewhere, or later.
    pub(super) fn passing(&self, what: impl std::fmt::Display) -> Trouble {
        self.trouble(true, what)
    }

    fn trouble(&self, passing: bool, what: impl std::fmt::Display) -> Trouble {
        let database = &self.target.database;
        Trouble {
            sentence: format!("PostgreSQL at {}, database {database:?}: {what}", self.endpoint),
            passing,
        }
    }

    pub(super) fn unknown_host(&self, error: &io::Error) -> Trouble {
        self.passing(format!("the name of the host cannot be resolved ({error})"))
    }

    pub(super) fn too_slow(&self, patience: Duration) -> Trouble {
        self.passing(format!(
            "no connection within {} s: is the address right, and does a firewall let it through? \
             (connect_timeout sets the limit)",
            patience.as_secs()
        ))
    }

    /// What the driver says.
    pub(super) fn explain(&self, error: &tokio_postgres::Error) -> Trouble {
        if let Some(refusal) = error.as_db_error() {
            return self.refused(refusal);
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
        while let Some(inner) = cause {
            if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                return self.tls(tls);
            }
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                // An `io::Error` with something inside is itself no link of the chain to it.
                let inside = io
                    .get_ref()
                    .and_then(|inside| inside.downcast_ref::<rustls::Error>());
                return inside.map_or_else(|| self.io(io), |tls| self.tls(tls));
            }
            match &*inner.to_string() {
                "password missing" => return self.no_password(),
                "server does not support TLS" => {
                    return self.never(
                        "the server does not offer TLS: set ssl = on in its postgresql.conf, or use \
                         sslmode=prefer where the network is trusted",
                    );
                }
                _ => cause = inner.source(),
            }
        }
        if error.is_closed() {
            return self.passing("the server closed the connection before it could be used");
        }
        let inside = error.source().map(|inner| format!(": {inner}"));
        self.never(format!("{error}{}", inside.unwrap_or_default()))
    }

    fn no_password(&self) -> Trouble {
        let passfile = self.passfile.map(|why| format!("; {why}")).unwrap_or_default();
        let user = &self.target.user;
        self.never(format!(
            "the server asks for the password of the role {user:?} and there is none: set PGPASSWORD, or add a line \
             to ~/.pgpass{passfile}"
        ))
    }

    fn io(&self, error: &io::Error) -> Trouble {
        let socket = matches!(self.endpoint.host, Host::Unix(_));
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                self.passing("the connection was refused: is the server running, and is this its port?")
            }
            io::ErrorKind::NotFound if socket => self.passing(
                "there is no such socket: is the server running, is this its port, and is host the directory of its \
                 socket?",
            ),
            io::ErrorKind::PermissionDenied if socket => {
                self.never("this process may not use the socket: look at the rights of its directory")
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                self.passing(format!(
                    "the server closed the connection before it could be used ({error}): is it PostgreSQL that \
                     listens there?"
                ))
            }
            _ => self.passing(format!("there is no connection: {error}")),
        }
    }

    fn tls(&self, error: &rustls::Error) -> Trouble {
        use CertificateError as Wrong;
        let wrong = match error {
            rustls::Error::InvalidCertificate(wrong) => wrong,
            rustls::Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::DecryptError,
            ) => {
                return self.never(format!(
                    "the server refuses the client's certificate: look at sslcert, and at ssl_ca_file of the server \
                     ({error})"
                ));
            }
            other => return self.never(format!("no TLS connection could be made: {other}")),
        };
        match wrong {
            // A signature that does not fit is by an authority of the same name, such as one that has been made anew.
            Wrong::UnknownIssuer
            | Wrong::BadSignature
            | Wrong::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => self.never(
                "the server's certificate is not trusted, because no authority that is known here signed it: give the file with \
                 the right authority's certificate as sslrootcert",
            ),
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => self.never(
                "the server's certificate is for another name: connect by a name that its subjectAltName has, make \
                 one that has this name, or settle for sslmode=verify-ca",
            ),
            Wrong::Expired | Wrong::ExpiredContext { .. } => {
                self.never("the server's certificate has expired: renew it")
            }
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                self.never("the server's certificate is not valid yet: is the clock of this machine right?")
            }
            other => self.never(format!("the server's certificate is refused: {other}")),
        }
    }

    /// What the server said. Its own words are in them, because they may be in any language and say more.
    fn refused(&self, refusal: &DbError) -> Trouble {
        let (target, said) = (self.target, refusal.message());
        let (user, database) = (&target.user, &target.database);
        let code = refusal.code();
        if *code == SqlState::INVALID_PASSWORD {
            let passfile = self.passfile.map(|why| format!("; {why}")).unwrap_or_default();
            self.never(format!(
                "the server refuses the password of the role {user:?}, or there is no such role{passfile} ({said})"
            ))
        } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
            self.not_let_in(said)
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            self.never(format!(
                "there is no such database: make it with `createdb --owner={user} --encoding=UTF8 \
                 --template=template0 {database}` ({said})"
            ))
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            self.never(format!(
                "the role {user:?} may not: run `GRANT CONNECT ON DATABASE {} TO {}` as the database's owner ({said})",
                identifier(database),
                identifier(user)
            ))
        } else if *code == SqlState::TOO_MANY_CONNECTIONS {
            self.passing(format!(
                "it has no connection left: raise max_connections, or the limit of the role or the database, or end \
                 what holds them ({said})"
            ))
        } else if *code == SqlState::CANNOT_CONNECT_NOW {
            self.passing(format!("the server is starting up or shutting down ({said})"))
        } else if [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::QUERY_CANCELED,
        ]
        .contains(code)
            || ["08", "53", "57", "58"]
                .iter()
                .any(|class| code.code().starts_with(class))
        {
            self.passing(format!("the server is in trouble: {said}"))
        } else {
            self.never(format!("the server says: {said} ({})", code.code()))
        }
    }

    fn not_let_in(&self, said: &str) -> Trouble {
        let user = &self.target.user;
        if said.starts_with("role ") && said.ends_with(" does not exist") {
            return self.never(format!(
                "there is no role {user:?}: make it with `createuser --pwprompt {user}` ({said})"
            ));
        }
        if said.ends_with("is not permitted to log in") {
            return self.never(format!(
                "the role {user:?} may not log in: run `ALTER ROLE {} LOGIN` ({said})",
                identifier(user)
            ));
        }
        if said.contains("client certificate") {
            return self.never(format!(
                "the server wants a certificate of the client: give sslcert and sslkey ({said})"
            ));
        }
        let encrypt = match self.mode {
            SslMode::Disable if matches!(self.endpoint.host, Host::Tcp(..)) => {
                ", or use sslmode=require if it takes encrypted connections alone"
            }
            _ => "",
        };
        self.never(format!(
            "the server does not let the role {user:?} in from here: add a line for it to its pg_hba.conf and reload \
             it{encrypt} ({said})"
        ))
    }
}

/// A name as SQL writes it, whatever is in it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

//! TLS to the database: in comes what was asked for, out goes the connector. rustls with ring, as everywhere here.
//!
//! The system's roots are read by `rustls-native-certs`, which is what the verifier for callbacks reads them with too:
//! `verify-ca` must verify a chain without a name, and that takes the roots themselves rather than a ready verifier.

use std::{os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::target::{Roots, SslMode, Tls};

/// The bits of a key's file that let its group write or run it, or anybody else do something with it; and all but the
/// owner's. As in libpq, root may own a key that a group reads.
const BEYOND_GROUP: u32 = 0o037;
const BEYOND_OWNER: u32 = 0o077;

/// What is verified of a server's certificate.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: nothing, but that the server holds its key.
    roots: Option<Trusted>,
    name: bool,
}

#[derive(Debug)]
struct Trusted {
    store: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

/// A connector for TLS as `tls` wants it. The files are read each time, so that a renewed certificate is taken up.
///
/// # Errors
/// A sentence about a file that cannot be used.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier {
        provider: Arc::clone(&provider),
        roots: trusted(tls)?,
        name: tls.mode == SslMode::VerifyFull,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &tls.identity {
        Some((certificate, key)) if tls.mode != SslMode::Disable => builder
            .with_client_auth_cert(certificates("sslcert", certificate)?, private_key(key)?)
            .map_err(|error| {
                format!("the certificate {certificate:?} and the key {key:?} cannot be used: {error}")
            })?,
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// The roots, where the chain is verified: always in the modes that say so, and with `require` where a file with roots
/// is given, as libpq does.
fn trusted(tls: &Tls) -> Result<Option<Trusted>, String> {
    let certificates = match (&tls.roots, tls.mode) {
        (_, SslMode::Disable | SslMode::Prefer) | (Roots::System, SslMode::Require) => return Ok(None),
        (Roots::File(path), _) => certificates("sslrootcert", path)?,
        (Roots::System, _) => rustls_native_certs::load_native_certs().certs,
    };
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(match &tls.roots {
            Roots::File(path) => format!("sslrootcert: no certificate in {path:?} can be used"),
            Roots::System => "there are no root certificates on this machine: install the package \
                              ca-certificates, or name a file with sslrootcert"
                .to_owned(),
        });
    }
    Ok(Some(Trusted { store, certificates }))
}

fn certificates(parameter: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> =
        read.map_err(|error| format!("{parameter}: {path:?} cannot be read as PEM: {error}"))?;
    match certificates.is_empty() {
        true => Err(format!("{parameter}: there is no certificate in {path:?}")),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let about =
        std::fs::metadata(path).map_err(|error| format!("sslkey: {path:?} cannot be read: {error}"))?;
    let forbidden = if about.uid() == 0 {
        BEYOND_GROUP
    } else {
        BEYOND_OWNER
    };
    if about.mode() & forbidden != 0 {
        return Err(format!(
            "sslkey: {path:?} is not used because others than its owner may read it: chmod 0600 it"
        ));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        format!("sslkey: {path:?} cannot be read as a PEM key without a passphrase: {error}")
    })
}

impl Trusted {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        let algorithms = provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(certificate)?;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.store, intermediates, now, algorithms)
        {
            // A certificate that signed itself, as `openssl req -x509` makes one, may sign others too, which rustls
            // takes from no server. Whoever names that very certificate trusts it. It is in its time: a certificate
            // that is not is refused for that first.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.certificates.iter().any(|known| known == certificate) =>
            {
                Ok(())
            }
            verified => verified,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trusted) = &self.roots {
            trusted.verify(certificate, intermediates, now, &self.provider)?;
        }
        if self.name {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

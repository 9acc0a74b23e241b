//! The `tls_config` block as settings of the HTTP library.
//!
//! Invariant: `server_name` changes which name the certificate must bear; everything else about the check stays.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Config, Error, TlsConfig};

/// The certificates that the system trusts, read when a client first needs them. Clones share them: decoding some 140
/// certificates takes milliseconds, and they take memory, for each client that has its own.
#[derive(Clone, Debug, Default)]
pub struct SystemRoots(Arc<OnceLock<Arc<RootCertStore>>>);

impl SystemRoots {
    fn get(&self) -> Arc<RootCertStore> {
        Arc::clone(self.0.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                // A container without ca-certificates has none; plain HTTP must work there all the same.
                let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                tracing::warn!("no usable system certificates{reason}: https targets need tls_config.ca_file");
            }
            Arc::new(roots)
        }))
    }
}

/// Applies `tls_config`, reading its files now.
pub(super) fn apply(
    config: &Config,
    roots: &SystemRoots,
    builder: reqwest::ClientBuilder,
) -> Result<reqwest::ClientBuilder, Error> {
    let tls = &config.tls_config;
    match (&tls.server_name, &tls.ca_file, tls.insecure_skip_verify) {
        (Some(name), Some(ca_file), false) => {
            return Ok(builder.tls_backend_preconfigured(with_server_name(config, name, ca_file)?));
        }
        (_, None, false) => {
            let trusting = rustls::ClientConfig::builder().with_root_certificates(roots.get());
            return Ok(builder.tls_backend_preconfigured(with_identity(config, trusting)?));
        }
        _ => {}
    }
    let mut builder = builder;
    if let Some(path) = &tls.ca_file {
        let not_pem = || not_pem("tls_config.ca_file", path, "a PEM certificate bundle");
        let bundle = reqwest::Certificate::from_pem_bundle(&read("tls_config.ca_file", path)?);
        let bundle = bundle.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(not_pem)?;
        builder = builder.tls_certs_only(bundle);
    }
    if let (Some(cert_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) {
        let mut pem = read("tls_config.cert_file", cert_file)?;
        pem.push(b'\n');
        pem.extend(read("tls_config.key_file", key_file)?);
        let identity = reqwest::Identity::from_pem(&pem)
            .map_err(|_| not_pem("tls_config.cert_file", cert_file, "a PEM certificate of that key_file"))?;
        builder = builder.identity(identity);
    }
    Ok(builder.tls_danger_accept_invalid_certs(tls.insecure_skip_verify))
}

fn with_server_name(config: &Config, name: &str, ca_file: &Path) -> Result<rustls::ClientConfig, Error> {
    let invalid = |message: String| Error::Invalid(message);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| invalid(format!("tls_config: server_name `{name}` is not a DNS name or an address")))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("tls_config.ca_file", ca_file)?);
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots))
        .build()
        .map_err(|error| invalid(format!("tls_config.ca_file `{}`: {error}", ca_file.display())))?;
    let verifier = Arc::new(NamedServer { name, verifier });
    with_identity(config, rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier))
}

type WithTrust = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

/// Adds our own certificate, when there is one, and what the handshake offers.
fn with_identity(config: &Config, builder: WithTrust) -> Result<rustls::ClientConfig, Error> {
    let TlsConfig { cert_file, key_file, .. } = &config.tls_config;
    let mut client = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => {
            let key = PrivateKeyDer::from_pem_slice(&read("tls_config.key_file", key_file)?)
                .map_err(|_| not_pem("tls_config.key_file", key_file, "a PEM private key"))?;
            builder
                .with_client_auth_cert(certificates("tls_config.cert_file", cert_file)?, key)
                .map_err(|error| Error::Invalid(format!("tls_config.cert_file `{}`: {error}", cert_file.display())))?
        }
        _ => builder.with_no_client_auth(),
    };
    client.alpn_protocols = if config.enable_http2 { vec![b"h2".into(), b"http/1.1".into()] } else { Vec::new() };
    Ok(client)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(key, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
    certificates.ok_or_else(|| not_pem(key, path, "a PEM certificate bundle"))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { key, path: path.to_owned(), source })
}

fn not_pem(key: &'static str, path: &Path, expected: &'static str) -> Error {
    Error::NotPem { key, path: path.to_owned(), expected }
}

/// Checks a certificate as usual, but for a name of our own instead of the host of the URL.
#[derive(Debug)]
struct NamedServer {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_certificates_are_decoded_once_for_all_that_share_them() {
        let roots = SystemRoots::default();
        let (first, second) = (roots.clone().get(), roots.get());
        assert!(Arc::ptr_eq(&first, &second));
    }
}

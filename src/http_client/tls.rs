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

use super::{Config, Error, TlsConfig, TlsVersion};

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
    let (given, own) = (given_roots(tls)?, own(tls)?);
    match (&tls.server_name, &given, tls.insecure_skip_verify) {
        (Some(name), given, false) => {
            let verifier = match given {
                Some(given) => verifier_of(given)?,
                None => verifier(roots.get()).map_err(|_| Error::Invalid(NO_ROOTS.to_owned()))?,
            };
            return Ok(builder.tls_backend_preconfigured(with_server_name(config, name, verifier, own)?));
        }
        (None, None, false) => {
            let trusting = handshake(tls).with_root_certificates(roots.get());
            return Ok(builder.tls_backend_preconfigured(with_identity(config, trusting, own)?));
        }
        _ => {}
    }
    let mut builder = builder;
    if let Some(given) = given {
        let bundle = reqwest::Certificate::from_pem_bundle(&given.bytes);
        let bundle = bundle.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(|| given.wrong(BUNDLE))?;
        builder = builder.tls_certs_only(bundle);
    }
    if let Some((cert, key)) = own {
        let pem = [cert.bytes.as_slice(), b"\n", &key.bytes].concat();
        let identity =
            reqwest::Identity::from_pem(&pem).map_err(|_| cert.wrong("a PEM certificate of that key_file"))?;
        builder = builder.identity(identity);
    }
    let [oldest, newest] = tls.versions().map(|version| match version {
        TlsVersion::TLS13 => reqwest::tls::Version::TLS_1_3,
        TlsVersion::TLS10 | TlsVersion::TLS11 | TlsVersion::TLS12 => reqwest::tls::Version::TLS_1_2,
    });
    let builder = builder.tls_version_min(oldest).tls_version_max(newest);
    Ok(builder.tls_danger_accept_invalid_certs(tls.insecure_skip_verify))
}

const BUNDLE: &str = "a PEM certificate bundle";
const NO_ROOTS: &str = "tls_config: no usable system certificates, give ca_file";

/// A handshake of the versions that the configuration allows.
fn handshake(tls: &TlsConfig) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.versions() {
        [TlsVersion::TLS13, _] => &[&rustls::version::TLS13],
        [_, TlsVersion::TLS13] => rustls::DEFAULT_VERSIONS,
        _ => &[&rustls::version::TLS12],
    };
    rustls::ClientConfig::builder_with_protocol_versions(versions)
}

fn verifier(roots: Arc<RootCertStore>) -> Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
    WebPkiServerVerifier::builder(roots).build()
}

fn verifier_of(ca: &Pem<'_>) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(ca.certificates()?);
    verifier(Arc::new(roots)).map_err(|_| ca.wrong(BUNDLE))
}

/// PEM text, from a file or from the configuration itself.
struct Pem<'a> {
    key: &'static str,
    path: Option<&'a Path>,
    bytes: Vec<u8>,
}

impl<'a> Pem<'a> {
    fn of(keys: [&'static str; 2], file: Option<&'a Path>, direct: Option<&str>) -> Result<Option<Self>, Error> {
        let [key_of_file, key_of_text] = keys;
        match (file, direct) {
            (Some(path), _) => Ok(Some(Self { key: key_of_file, path: Some(path), bytes: read(key_of_file, path)? })),
            (None, Some(text)) => Ok(Some(Self { key: key_of_text, path: None, bytes: text.as_bytes().to_vec() })),
            (None, None) => Ok(None),
        }
    }

    fn wrong(&self, expected: &'static str) -> Error {
        match self.path {
            Some(path) => Error::NotPem { key: self.key, path: path.to_owned(), expected },
            None => Error::Invalid(format!("{}: the text is not {expected}", self.key)),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
        certificates.ok_or_else(|| self.wrong(BUNDLE))
    }
}

fn given_roots(tls: &TlsConfig) -> Result<Option<Pem<'_>>, Error> {
    Pem::of(["tls_config.ca_file", "tls_config.ca"], tls.ca_file.as_deref(), tls.ca.as_deref())
}

fn own(tls: &TlsConfig) -> Result<Option<(Pem<'_>, Pem<'_>)>, Error> {
    let names = ["tls_config.cert_file", "tls_config.cert"];
    let cert = Pem::of(names, tls.cert_file.as_deref(), tls.cert.as_deref())?;
    let direct = tls.key.as_ref().map(|key| key.reveal());
    let key = Pem::of(["tls_config.key_file", "tls_config.key"], tls.key_file.as_deref(), direct)?;
    Ok(cert.zip(key))
}

fn with_server_name(
    config: &Config,
    name: &str,
    verifier: Arc<WebPkiServerVerifier>,
    own: Option<(Pem<'_>, Pem<'_>)>,
) -> Result<rustls::ClientConfig, Error> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::Invalid(format!("tls_config: server_name `{name}` is not a DNS name or an address")))?;
    let verifier = Arc::new(NamedServer { name, verifier });
    let trusting = handshake(&config.tls_config).dangerous().with_custom_certificate_verifier(verifier);
    with_identity(config, trusting, own)
}

type WithTrust = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

/// Adds our own certificate, when there is one, and what the handshake offers.
fn with_identity(
    config: &Config,
    builder: WithTrust,
    own: Option<(Pem<'_>, Pem<'_>)>,
) -> Result<rustls::ClientConfig, Error> {
    let mut client = match own {
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|_| key.wrong("a PEM private key"))?;
            builder
                .with_client_auth_cert(cert.certificates()?, private)
                .map_err(|error| Error::Invalid(format!("{}: {error}", cert.key)))?
        }
        None => builder.with_no_client_auth(),
    };
    client.alpn_protocols = if config.enable_http2 { vec![b"h2".into(), b"http/1.1".into()] } else { Vec::new() };
    Ok(client)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { key, path: path.to_owned(), source })
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

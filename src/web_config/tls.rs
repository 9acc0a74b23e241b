//! `tls_server_config` as a configuration of rustls.
//!
//! In: the block and its files. Out: what a listener's handshakes use, with warnings about what Go offers and rustls does
//! not; or every mistake. Invariant: a client's certificate that must be verified is, against `client_ca` alone.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use super::file::TlsServer;
use super::{Files, client_names};

/// Suites that Go offers and rustls does not, because their encryption is weak: left out with a warning.
const SUITES_LEFT_OUT: [&str; 4] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];
/// Go's names of the suites of TLS 1.3, which are always offered, as in Go.
const SUITES_OF_13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const CLIENT_AUTH: [&str; 5] = [
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
];
const VERSIONS: [&str; 4] = ["TLS10", "TLS11", "TLS12", "TLS13"];

/// What mistakes and warnings are told to, as `key: what`.
struct Notes {
    wrong: Vec<String>,
    warnings: Vec<String>,
}

/// The configuration, and warnings.
pub(super) fn server(
    block: &TlsServer,
    http2: bool,
    files: &mut Files,
) -> Result<(Arc<ServerConfig>, Vec<String>), Vec<String>> {
    let mut notes = Notes { wrong: Vec::new(), warnings: Vec::new() };
    let provider = Arc::new(provider(block, &mut notes));
    let versions = versions(block, &provider, &mut notes);
    let identity = identity(block, files, &mut notes);
    let verifier = verifier(block, &provider, files, &mut notes);
    let (Some((chain, key)), true) = (identity, notes.wrong.is_empty()) else { return Err(notes.wrong) };
    let built = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).and_then(|builder| {
        match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        }
        .with_single_cert(chain, key)
    });
    let mut config = match built {
        Ok(config) => config,
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(vec!["cert and key: the key is not the one of the certificate".to_owned()]);
        }
        Err(error) => return Err(vec![format!("cert and key: {error}")]),
    };
    config.ignore_client_order = block.prefer_server_cipher_suites;
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok((Arc::new(config), notes.warnings))
}

fn provider(block: &TlsServer, notes: &mut Notes) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !block.cipher_suites.is_empty() {
        let of_12 = |name: &str| {
            let is_named = |suite: &&rustls::SupportedCipherSuite| suite.suite().as_str() == Some(name);
            ring::ALL_CIPHER_SUITES.iter().find(is_named).copied().filter(|suite| suite.tls13().is_none())
        };
        let mut suites: Vec<_> =
            (provider.cipher_suites.iter()).filter(|suite| suite.tls13().is_some()).copied().collect();
        for name in &block.cipher_suites {
            match of_12(name) {
                Some(suite) => suites.push(suite),
                None if SUITES_OF_13.contains(&name.as_str()) => {}
                None if SUITES_LEFT_OUT.contains(&name.as_str()) => {
                    notes.warnings.push(format!("tls_server_config.cipher_suites: {name} is weak and left out"));
                }
                None => notes.wrong.push(format!("cipher_suites: unknown cipher {name:?}")),
            }
        }
        provider.cipher_suites = suites;
    }
    if !block.curve_preferences.is_empty() {
        let mut groups = Vec::new();
        for name in &block.curve_preferences {
            match name.as_str() {
                "X25519" => groups.push(ring::kx_group::X25519),
                "CurveP256" => groups.push(ring::kx_group::SECP256R1),
                "CurveP384" => groups.push(ring::kx_group::SECP384R1),
                "CurveP521" => {
                    notes.warnings.push("tls_server_config.curve_preferences: CurveP521 is not offered".to_owned());
                }
                _ => notes.wrong.push(format!(
                    "curve_preferences: unknown curve {name:?}: it is one of X25519, CurveP256, CurveP384, CurveP521"
                )),
            }
        }
        if groups.is_empty() && notes.wrong.is_empty() {
            notes.wrong.push("curve_preferences: none of them is offered; add X25519 or CurveP256".to_owned());
        }
        provider.kx_groups = groups;
    }
    provider
}

fn versions(block: &TlsServer, provider: &CryptoProvider, notes: &mut Notes) -> Vec<&'static SupportedProtocolVersion> {
    let mut place = |key: &str, name: &str| {
        let at = VERSIONS.iter().position(|version| *version == name);
        if at.is_none() {
            notes.wrong.push(format!("{key}: unknown TLS version {name:?}: it is one of {}", VERSIONS.join(", ")));
        }
        at
    };
    let (Some(min), Some(max)) = (place("min_version", &block.min_version), place("max_version", &block.max_version))
    else {
        return Vec::new();
    };
    if min < 2 {
        notes.warnings.push(format!("tls_server_config.min_version: {} is broken; TLS12 is the least", VERSIONS[min]));
    }
    if max < 2 || max < min {
        notes.wrong.push(format!("max_version: {} leaves no version: TLS12 and TLS13 are offered", VERSIONS[max]));
        return Vec::new();
    }
    let has_12 = provider.cipher_suites.iter().any(|suite| suite.tls13().is_none());
    let both: [(usize, &SupportedProtocolVersion); 2] = [(3, &rustls::version::TLS13), (2, &rustls::version::TLS12)];
    let in_range = both.iter().filter(|(at, _)| (min..=max).contains(at) && (*at == 3 || has_12));
    let versions: Vec<_> = in_range.map(|(_, version)| *version).collect();
    if versions.is_empty() {
        notes.wrong.push("cipher_suites: none of them is offered for TLS12; name one with GCM or CHACHA20".to_owned());
    }
    versions
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(block: &TlsServer, files: &mut Files, notes: &mut Notes) -> Option<Identity> {
    let cert = either("cert", (&block.cert, &block.cert_file), files, notes);
    let key = either("key", (block.key.reveal(), &block.key_file), files, notes);
    for (name, found) in [("cert", &cert), ("key", &key)] {
        if matches!(found, Ok(None)) {
            notes.wrong.push(format!("{name}: missing; give `{name}` or `{name}_file`"));
        }
    }
    let (cert, key) = (cert.ok()??, key.ok()??);
    let chain = certificates("cert", &cert.0, &cert.1, notes);
    let read = PrivateKeyDer::from_pem_slice(&key.0);
    if read.is_err() {
        notes.wrong.push(format!("{}: not a PEM private key", key.1));
    }
    Some((chain?, read.ok()?))
}

fn certificates(key: &str, pem: &[u8], shown: &str, notes: &mut Notes) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    if chain.is_none() {
        let what = if key == "cert" { "a PEM certificate" } else { "PEM certificates of authorities" };
        notes.wrong.push(format!("{shown}: not {what}"));
    }
    chain
}

/// What stands in the file or in the block, and the key that says so; `Err` when it was told what is wrong.
fn either(
    name: &str,
    (inline, path): (&str, &Path),
    files: &mut Files,
    notes: &mut Notes,
) -> Result<Option<(Vec<u8>, String)>, ()> {
    match (inline.is_empty(), path.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, true) => Ok(Some((inline.as_bytes().to_vec(), name.to_owned()))),
        (false, false) => {
            notes.wrong.push(format!("{name}: `{name}` and `{name}_file` are given; leave one out"));
            Err(())
        }
        (true, false) => {
            let shown = format!("{name}_file `{}`", path.display());
            match files.read(path) {
                Ok(bytes) => Ok(Some((bytes, shown))),
                Err(reason) => {
                    notes.wrong.push(format!("{shown}: {reason}"));
                    Err(())
                }
            }
        }
    }
}

fn verifier(
    block: &TlsServer,
    provider: &Arc<CryptoProvider>,
    files: &mut Files,
    notes: &mut Notes,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let auth = match block.client_auth_type.as_str() {
        "" => "NoClientCert",
        "RequireClientCert" => "RequireAnyClientCert", // the name before exporter-toolkit 0.5
        other => other,
    };
    if !CLIENT_AUTH.contains(&auth) {
        notes.wrong.push(format!("client_auth_type: {auth:?} is not one of {}", CLIENT_AUTH.join(", ")));
        return None;
    }
    let is_required = matches!(auth, "RequireAnyClientCert" | "RequireAndVerifyClientCert");
    let verifies = matches!(auth, "VerifyClientCertIfGiven" | "RequireAndVerifyClientCert");
    if !block.client_allowed_sans.is_empty() && !is_required {
        notes.wrong.push(
            "client_allowed_sans: client_auth_type must be RequireAndVerifyClientCert or RequireAnyClientCert, else a \
             client without a certificate passes"
                .to_owned(),
        );
    }
    let authorities = either("client_ca", (&block.client_ca, &block.client_ca_file), files, notes).ok()?;
    if auth == "NoClientCert" {
        if authorities.is_some() {
            notes.wrong.push("client_ca: client_auth_type is NoClientCert, so it would not be used".to_owned());
        }
        return None;
    }
    let roots = match authorities {
        Some((pem, shown)) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates("client_ca", &pem, &shown, notes)?);
            Some(Arc::new(roots))
        }
        None if verifies => {
            notes.wrong.push(format!("client_ca_file: missing; {auth} needs the authorities that sign clients"));
            return None;
        }
        None => None,
    };
    let chain = match roots.filter(|_| verifies) {
        None => None,
        Some(roots) => match WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider)).build() {
            Ok(verifier) => Some(verifier),
            Err(error) => {
                notes.wrong.push(format!("client_ca: {error}"));
                return None;
            }
        },
    };
    let allowed = block.client_allowed_sans.clone();
    Some(Arc::new(Clients { is_required, chain, allowed, provider: Arc::clone(provider) }))
}

/// Checks the certificates of clients as `client_auth_type` says: the chain when it must be verified, the names when they
/// are listed, the client's possession of the key always.
#[derive(Debug)]
struct Clients {
    is_required: bool,
    chain: Option<Arc<dyn ClientCertVerifier>>,
    allowed: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        if !self.allowed.is_empty() && !client_names::of(end_entity).iter().any(|name| self.allowed.contains(name)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

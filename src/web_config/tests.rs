//! Files as people write them, and handshakes over a pipe.
#![allow(clippy::unwrap_used, reason = "tests")]

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// An authority: its certificate, and what it signs.
struct Authority(String, Issuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
    }

    fn signs(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.1).unwrap().pem(), key.serialize_pem())
    }
}

/// A folder with those files, and a guard of `web-config.yml` in it.
fn open(files: &[(&str, &str)], needs_http2: bool) -> (tempfolder::Folder, Result<Guard, Error>) {
    let folder = tempfolder::Folder::new();
    for (name, text) in files {
        std::fs::write(folder.0.join(name), text).unwrap();
    }
    let settings = Settings { config_file: Some(folder.0.join("web-config.yml")), bearer_token_files: Vec::new() };
    let guard = Guard::open("web.config_file", settings, needs_http2);
    (folder, guard)
}

mod tempfolder {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    pub(super) struct Folder(pub(super) PathBuf);

    impl Folder {
        pub(super) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("meshscope-web-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Whether a client with that certificate gets an answer through the guard's TLS.
async fn passes(guard: &Guard, authority: &Authority, client: Option<&(String, String)>) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.0.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let mut server = guard.accept(theirs);
    let serving = async {
        let mut asked = [0; 4];
        server.read_exact(&mut asked).await?;
        server.write_all(b"pong").await?;
        server.flush().await
    };
    let asking = async {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from("mesh.example").unwrap(), ours).await?;
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.map(|_| answer)
    };
    let (served, asked) = tokio::join!(serving, asking);
    assert_eq!(served.is_ok(), asked.is_ok());
    asked.is_ok_and(|answer| answer == *b"pong")
}

#[tokio::test]
async fn each_client_auth_type_lets_in_whom_gos_crypto_tls_lets_in() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (cert, key) = ours.signs("mesh.example");
    let (known, unknown) = (ours.signs("ci.example"), foreign.signs("ci.example"));
    let files = |block: &str| {
        let block = format!("tls_server_config: {{cert_file: c.pem, key_file: k.pem{block}}}");
        let files = [("web-config.yml", block.as_str()), ("c.pem", &cert), ("k.pem", &key), ("ca.pem", &ours.0)];
        open(&files, false)
    };
    // No certificate, one of the authority, one of another.
    for (block, expect) in [
        ("", [true, true, true]),
        (", client_auth_type: NoClientCert", [true, true, true]),
        (", client_auth_type: RequestClientCert", [true, true, true]),
        (", client_auth_type: RequireAnyClientCert", [false, true, true]),
        (", client_auth_type: RequireClientCert", [false, true, true]),
        (", client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem", [true, true, false]),
        (", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem", [false, true, false]),
        (
            ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [ci.example]",
            [false, true, false],
        ),
        (
            ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: ['*.example']",
            [false, false, false],
        ),
        (", client_auth_type: RequireAnyClientCert, client_allowed_sans: [ci.example]", [false, true, true]),
        (", min_version: TLS13", [true, true, true]),
        (", max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]", [true, true, true]),
        (", max_version: TLS12, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]", [false, false, false]),
        (", curve_preferences: [CurveP384]", [true, true, true]),
    ] {
        let (_folder, guard) = files(block);
        let guard = guard.unwrap_or_else(|error| panic!("{block}: {error}"));
        let mut passed = Vec::new();
        for client in [None, Some(&known), Some(&unknown)] {
            passed.push(passes(&guard, &ours, client).await);
        }
        assert_eq!(passed, expect, "{block}");
    }
}

#[test]
fn what_is_wrong_is_named_and_secrets_are_not() {
    let authority = Authority::new();
    let (cert, key) = authority.signs("mesh.example");
    let (_, other) = authority.signs("mesh.example");
    let pair = "cert_file: c.pem, key_file: k.pem";
    let check = |text: &str, expect: &[&str]| {
        let files = [
            ("web-config.yml", text),
            ("c.pem", &cert),
            ("k.pem", &key),
            ("other.pem", &other),
            ("ca.pem", &authority.0),
        ];
        let (_folder, guard) = open(&files, true);
        match guard {
            Ok(guard) => {
                assert!(!expect.is_empty(), "taken: {text}");
                let warnings = guard.status().warnings.join("\n");
                expect.iter().for_each(|part| assert!(warnings.contains(part), "{text}\n{warnings}"));
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!error.contains("hunter2") && !error.contains("PRIVATE"), "{error}");
                expect.iter().for_each(|part| assert!(error.contains(part), "{text}\n{error}"));
            }
        }
    };
    let tls = |rest: &str| format!("tls_server_config: {{{pair}{rest}}}");
    check("basic_auth_users: {ali: hunter2}", &["basic_auth_users.ali", "bcrypt"]);
    check("basic_auth_users: [hunter2]", &["basic_auth_users"]);
    check("basic_auth_user: {ali: hunter2}", &["unknown key", "basic_auth_users"]);
    check("tls_server_config: {}", &["cert: missing", "key: missing"]);
    check("tls_server_config: {cert_file: none.pem, key_file: k.pem}", &["cert_file", "none.pem", "No such file"]);
    check("tls_server_config: {cert_file: k.pem, key_file: k.pem}", &["k.pem", "not a PEM certificate"]);
    check("tls_server_config: {cert_file: c.pem, key: hunter2}", &["key: not a PEM private key"]);
    check("tls_server_config: {cert_file: c.pem, key_file: other.pem}", &["not the one of the certificate"]);
    check(&tls(", key: hunter2"), &["leave one out"]);
    check(&tls(", client_auth_type: Sometimes"), &["\"Sometimes\" is not one of NoClientCert"]);
    check(&tls(", client_auth_type: RequireAndVerifyClientCert"), &["client_ca_file: missing"]);
    check(&tls(", client_ca_file: ca.pem"), &["NoClientCert, so it would not be used"]);
    check(&tls(", client_auth_type: RequestClientCert, client_allowed_sans: [a]"), &["client_allowed_sans"]);
    check(&tls(", min_version: SSL3"), &["unknown TLS version \"SSL3\""]);
    check(&tls(", max_version: TLS11"), &["leaves no version"]);
    check(&tls(", cipher_suites: [RC4]"), &["unknown cipher \"RC4\""]);
    check(&tls(", curve_preferences: [CurveP521]"), &["none of them is offered"]);
    check("http_server_config: {http2: false}", &["gRPC is HTTP/2"]);
    check("http_server_config: {headers: {X-Other: a}}", &["X-Other", "cannot be set"]);
    check("http_server_config: {headers: {X-Frame-Options: allow}}", &["deny, sameorigin"]);
    check("rate_limit: {interval: 1s}", &["burst: 0"]);
    // Taken, with a warning.
    check(&tls(", min_version: TLS10"), &["TLS12 is the least"]);
    check(&tls(", curve_preferences: [CurveP521, X25519]"), &["CurveP521"]);
    check(&tls(", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_AES_128_GCM_SHA256]"), &["weak"]);
}

#[tokio::test]
async fn a_rate_limit_holds_for_all_and_a_file_without_users_lets_all_in() {
    let (_folder, guard) = open(&[("web-config.yml", "rate_limit: {interval: 1h, burst: 2}")], false);
    let guard = guard.unwrap();
    let none = HeaderMap::new();
    let outcomes = [guard.admit(&none).await, guard.admit(&none).await, guard.admit(&none).await];
    assert_eq!(outcomes, [Ok(Identity::Anyone), Ok(Identity::Anyone), Err(Refusal::TooMany)]);
    assert_eq!(guard.counters().limited.load(Relaxed), 1);
}

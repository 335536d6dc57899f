//! A certificate authority of our own, and certificates that are good, expired or for another name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;

/// An authority whose root lies in a PEM file, for `tls_ca_file`.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// Makes one and writes `ca.pem` into the folder.
    pub fn new(folder: &Path) -> Self {
        Self::named("mailroot test authority", folder)
    }

    fn named(name: &str, folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let file = folder.join("ca.pem");
        std::fs::write(&file, root.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// The root in PEM.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// For these names (IP addresses too), valid now.
    pub fn good(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.server(names, false)
    }

    /// For these names, expired in 2021.
    pub fn expired(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.server(names, true)
    }

    /// What a talk script's `certificate WORD` means.
    pub fn by_word(&self, word: &str, names: &[&str]) -> Arc<ServerConfig> {
        match word {
            "good" => self.good(names),
            "expired" => self.expired(names),
            "wrong-name" => self.good(&["another.example"]),
            "unknown-authority" => {
                let folder = tempfile::tempdir().unwrap();
                Self::named("somebody else", folder.path()).good(names)
            }
            _ => panic!("certificate {word}: good, expired, wrong-name or unknown-authority"),
        }
    }

    /// For these names, valid now: certificate and key in PEM, as a file holds them.
    pub fn pem(&self, names: &[&str]) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = params_for(names).signed_by(&key, &self.issuer).unwrap();
        certificate.pem() + &key.serialize_pem()
    }

    fn server(&self, names: &[&str], expired: bool) -> Arc<ServerConfig> {
        let mut params = params_for(names);
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

fn params_for(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

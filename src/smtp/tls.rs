//! TLS for the client: who is trusted, the handshake, the stream (RFC 3207, RFC 8314).
//!
//! Reads the CA file or the system's roots, these once and only when a certificate is to be judged. Reads and writes
//! one socket, driven by hand so that every system call meets the deadline of [`Timed`]. The context is shared by all
//! session threads.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error};
use rustls::{RootCertStore, SignatureScheme};

use super::Peer;
use crate::config::TlsMode;
use crate::timed::Timed;

/// What all TLS connections share: the provider, the trusted roots, the sessions to resume.
pub struct TlsContext {
    provider: Arc<CryptoProvider>,
    /// The roots of the CA file; `None`: the system's, read when first needed.
    given_roots: Option<Arc<RootCertStore>>,
    judging: OnceLock<Result<Arc<ClientConfig>, String>>,
    trusting: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl TlsContext {
    /// With the roots of `ca_file`, or with the system's. Cheap: the system's roots are read when first needed.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self {
            provider: Arc::new(crypto::ring::default_provider()),
            given_roots: ca_file.map(read_roots).transpose()?.map(Arc::new),
            judging: OnceLock::new(),
            trusting: OnceLock::new(),
        })
    }

    /// The client half of a handshake with this peer, or in words why there can be none.
    pub(super) fn client(&self, peer: &Peer) -> Result<ClientConnection, String> {
        let config = if peer.tls == TlsMode::Verified {
            self.judging.get_or_init(|| self.judging_config())
        } else {
            self.trusting.get_or_init(|| self.trusting_config())
        };
        let config = config.as_ref().map_err(Clone::clone)?;
        let bare = peer
            .name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.');
        let name = match ServerName::try_from(bare.to_owned()) {
            Ok(name) => name,
            Err(_) if peer.tls == TlsMode::Verified => {
                return Err(format!(
                    "no certificate can be valid for {bare:?}, which is no host name"
                ));
            }
            Err(_) => ServerName::IpAddress(peer.address.ip().into()),
        };
        ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())
    }

    fn judging_config(&self) -> Result<Arc<ClientConfig>, String> {
        let roots = match &self.given_roots {
            Some(roots) => Arc::clone(roots),
            None => Arc::new(system_roots()?),
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|error| error.to_string())?;
        self.config(verifier)
    }

    fn trusting_config(&self) -> Result<Arc<ClientConfig>, String> {
        self.config(Arc::new(AnyCertificate(Arc::clone(&self.provider))))
    }

    fn config(&self, verifier: Arc<dyn ServerCertVerifier>) -> Result<Arc<ClientConfig>, String> {
        // `dangerous()` is rustls' name for every verifier that is handed in, the strict one too.
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

fn read_roots(file: &Path) -> Result<RootCertStore, String> {
    let shown = file.display();
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(|error| format!("tls_ca_file {shown} cannot be read: {error}"))?;
    for certificate in certificates {
        let certificate =
            certificate.map_err(|error| format!("tls_ca_file {shown} is not a PEM file: {error}"))?;
        roots.add(certificate).map_err(|error| {
            format!("tls_ca_file {shown} holds a certificate that cannot be used: {error}")
        })?;
    }
    if roots.is_empty() {
        return Err(format!(
            "tls_ca_file {shown} holds no certificate (-----BEGIN CERTIFICATE-----)"
        ));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(
            "this machine has no trusted root certificates (install ca-certificates, or set tls_ca_file)"
                .to_owned(),
        );
    }
    Ok(roots)
}

/// Takes any certificate, but not a host that does not hold its key: the handshake's signature is still verified.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One encrypted connection.
pub(super) struct TlsStream {
    pub conn: ClientConnection,
    pub timed: Timed,
}

impl TlsStream {
    /// The handshake, within the deadline of `timed`. The error says in words what was wrong.
    pub fn shake_hands(conn: ClientConnection, timed: Timed) -> io::Result<Self> {
        let mut stream = Self { conn, timed };
        while stream.conn.is_handshaking() {
            stream.flush()?;
            if stream.conn.is_handshaking() && !stream.receive()? {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the host closed the connection during the handshake",
                ));
            }
        }
        stream.flush()?;
        Ok(stream)
    }

    /// Says that no more will come.
    pub fn close(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }

    /// Takes one read's worth of records; `false` at the end of the stream.
    fn receive(&mut self) -> io::Result<bool> {
        if self.conn.read_tls(&mut self.timed)? == 0 {
            return Ok(false);
        }
        if let Err(error) = self.conn.process_new_packets() {
            // The alert that tells the host why; it is of no use to us.
            let _ = self.flush();
            return Err(io::Error::new(io::ErrorKind::InvalidData, words(&error)));
        }
        Ok(true)
    }
}

impl Read for TlsStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.conn.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            self.flush()?;
            if !self.receive()? {
                return Ok(0);
            }
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = self.conn.writer().write(buf)?;
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.conn.wants_write() {
            if self.conn.write_tls(&mut self.timed)? == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }
}

/// `TLSv1.3 TLS_AES_128_GCM_SHA256 X25519, certificate not verified`.
pub(super) fn facts(conn: &ClientConnection, verified: bool) -> String {
    let version = conn
        .protocol_version()
        .map_or_else(String::new, |version| format!("{version:?}").replace('_', "."));
    let suite = conn.negotiated_cipher_suite().map_or_else(String::new, |suite| {
        format!(" {:?}", suite.suite()).replace("TLS13_", "TLS_")
    });
    let group = conn
        .negotiated_key_exchange_group()
        .map_or_else(String::new, |group| format!(" {:?}", group.name()));
    let not = if verified { "" } else { "not " };
    format!("{version}{suite}{group}, certificate {not}verified")
}

/// What was wrong with a handshake, for a person.
fn words(error: &Error) -> String {
    use CertificateError as Cert;
    let Error::InvalidCertificate(certificate) = error else {
        return error.to_string();
    };
    match certificate {
        Cert::Expired => "its certificate has expired".to_owned(),
        Cert::ExpiredContext { not_after, .. } => format!("its certificate expired on {}", day(*not_after)),
        Cert::NotValidYet => "its certificate is not valid yet".to_owned(),
        Cert::NotValidYetContext { not_before, .. } => {
            format!("its certificate is valid only from {}", day(*not_before))
        }
        Cert::NotValidForName => "its certificate is for another name".to_owned(),
        Cert::NotValidForNameContext { expected, presented } => format!(
            "its certificate is for {}, not for {}",
            shown_names(presented),
            expected.to_str()
        ),
        // An authority may have the name of a trusted one and another key.
        Cert::UnknownIssuer | Cert::BadSignature => {
            "its certificate is not signed by an authority that is trusted here (tls_ca_file)".to_owned()
        }
        other => format!("its certificate is not valid ({other})"),
    }
}

/// A host chooses how many names it presents; a few tell enough.
fn shown_names(presented: &[String]) -> String {
    match presented {
        [] => "no name at all".to_owned(),
        names => names
            .iter()
            .take(5)
            .map(|name| name.trim_start_matches("DnsName(\"").trim_end_matches("\")"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn day(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || "an unknown day".to_owned(),
            |at| at.strftime("%Y-%m-%d").to_string(),
        )
}

//! Certificates for one server.

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// An authority of our own and what it signed.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
    authority: CertificateParams,
    authority_key: KeyPair,
    authority_pem: String,
    server: (String, String),
}

impl Certificates {
    /// Makes them, the server's for 127.0.0.1.
    ///
    /// # Errors
    /// The temporary folder cannot be written.
    pub fn new() -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "test authority");
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::from_params(&authority, &authority_key);
        let server = signed(&issuer, "127.0.0.1")?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("ca.pem"), &authority_pem)?;
        Ok(Self { folder, authority, authority_key, authority_pem, server })
    }

    /// The authority's certificate as a file.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Where files for clients may lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Certificate and key for a client called `name`, PEM.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn client(&self, name: &str) -> Result<(String, String)> {
        signed(&Issuer::from_params(&self.authority, &self.authority_key), name)
    }

    /// What answers TLS. `asks_clients`: only those with a certificate of this authority come in.
    pub(super) fn acceptor(&self, asks_clients: bool) -> Result<TlsAcceptor> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions()?;
        let builder = if asks_clients {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.authority_pem.as_bytes())?)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = &self.server;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let config = builder.with_single_cert(vec![certificate], key).context("server key")?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn signed(issuer: &Issuer<'_, &KeyPair>, name: &str) -> Result<(String, String)> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

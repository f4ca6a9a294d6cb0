//! The run's certificate authority. Its key is in this process's memory alone, and ends with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Error, MAX_NAMES, lock};

pub(super) struct Authority {
    provider: Arc<CryptoProvider>,
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    /// All servers have the same key.
    key: KeyPair,
    leaves: Mutex<HashMap<String, CertificateDer<'static>>>,
}

impl Authority {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "agentrec, for one recording");
        limit(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate()?;
        Ok(Self { provider, issuer, certificate, key, leaves: Mutex::default() })
    }

    /// Its certificate.
    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What a server of this name is to its client, with the protocol that was chosen by ALPN.
    pub(super) fn server(&self, name: &str, alpn: Option<&[u8]>) -> Result<ServerConfig, Error> {
        let chain = vec![self.leaf(name)?];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
        Ok(config)
    }

    fn leaf(&self, name: &str) -> Result<CertificateDer<'static>, Error> {
        let mut leaves = lock(&self.leaves);
        if let Some(leaf) = leaves.get(name) {
            return Ok(leaf.clone());
        }
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Strict clients want it (RFC 5280, 4.2.1.1).
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::OrganizationName, "agentrec");
        limit(&mut params);
        let leaf = params.signed_by(&self.key, &self.issuer)?.der().clone();
        if leaves.len() < MAX_NAMES {
            leaves.insert(name.to_owned(), leaf.clone());
        }
        Ok(leaf)
    }
}

/// Valid from yesterday, since clocks differ, for longer than a recording takes.
fn limit(params: &mut CertificateParams) {
    let day = |days: i64| {
        let date = jiff::Timestamp::now().as_second() + days * 24 * 3600;
        let date = jiff::Timestamp::from_second(date).unwrap_or_default();
        let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    (params.not_before, params.not_after) = (day(-1), day(365));
}

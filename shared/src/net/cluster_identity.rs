//! What makes a process a member of its cluster: a certificate of its own, and the rules by which it
//! knows the others.
//!
//! Every member derives the same authority from the cluster secret and signs itself a certificate
//! for a key that lives as long as the process. Both sides of a connection ask for one, so whoever
//! has none of this cluster does not come as far as HTTP. All certificates are for one constant
//! name: a member proves that it knows the secret, not which address it has. No clock is asked, so
//! that servers whose clocks differ, by years even, still know each other.

use std::{fmt, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
    version::TLS13,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::cluster_secret::ClusterSecret;

/// The name that all certificates are for. Nobody looks it up.
const MEMBER_NAME: &str = "member.dulse.internal";
/// An Ed25519 key as PKCS#8 (RFC 8410) is this and the seed.
const PKCS8_BEFORE_SEED: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// The time that is assumed whenever a certificate is looked at; all are valid then.
const ASSUMED_TIME: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1 << 30));
const FIRST_YEAR: i32 = 1970;
const LAST_YEAR: i32 = 9999;

/// A member of a cluster, as others of it see it. Cheap to clone; all clones are the same member.
#[derive(Clone)]
pub struct ClusterIdentity {
    calling: Arc<ClientConfig>,
    answering: Arc<ServerConfig>,
    name: ServerName<'static>,
    fingerprint: Arc<str>,
}

/// An identity that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate from the cluster secret: {0}")]
pub struct IdentityError(String);

fn failed(error: impl fmt::Display) -> IdentityError {
    IdentityError(error.to_string())
}

impl ClusterIdentity {
    /// Makes a certificate of the cluster that has this secret.
    pub fn new(secret: &ClusterSecret) -> Result<Self, IdentityError> {
        let minted = Minted::new(secret).map_err(failed)?;
        Ok(Self {
            calling: Arc::new(minted.calling().map_err(failed)?),
            answering: Arc::new(minted.answering()?),
            name: ServerName::try_from(MEMBER_NAME).map_err(failed)?,
            fingerprint: secret.fingerprint().into(),
        })
    }

    /// [`ClusterSecret::fingerprint`] of its cluster.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How it calls others.
    pub(super) fn connector(&self) -> TlsConnector {
        self.calling.clone().into()
    }

    /// How it answers others.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.answering.clone().into()
    }

    /// Whom a caller expects to reach, wherever that is.
    pub(super) fn expected_name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl fmt::Debug for ClusterIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterIdentity(fingerprint {})", self.fingerprint)
    }
}

#[cfg(test)]
impl ClusterIdentity {
    /// One that takes the servers of one cluster for its own, and shows them another's certificate.
    pub(super) fn of_another_cluster(trusted: &ClusterSecret, own: &ClusterSecret) -> Self {
        let authority = Minted::new(trusted).unwrap().authority;
        let config = Minted { authority, ..Minted::new(own).unwrap() }.calling().unwrap();
        Self { calling: Arc::new(config), ..Self::new(own).unwrap() }
    }

    /// One that takes the servers of a cluster for its own, and shows them nothing.
    pub(super) fn without_certificate(trusted: &ClusterSecret) -> Self {
        let roots = Minted::new(trusted).unwrap().roots().unwrap();
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(NoClock));
        let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Self { calling: Arc::new(config), ..Self::new(trusted).unwrap() }
    }
}

/// The authority's certificate, a member's, and the member's key.
struct Minted {
    authority: CertificateDer<'static>,
    member: CertificateDer<'static>,
    member_key: PrivatePkcs8KeyDer<'static>,
}

impl Minted {
    fn new(secret: &ClusterSecret) -> Result<Self, rcgen::Error> {
        let seed = secret.authority_seed();
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_BEFORE_SEED[..], &seed].concat());
        let (key, params) = (KeyPair::try_from(&pkcs8)?, authority_params(&secret.fingerprint())?);
        let authority = params.self_signed(&key)?;
        let member_key = KeyPair::generate_for(&PKCS_ED25519)?;
        let member =
            member_params()?.signed_by(&member_key, &Issuer::from_params(&params, &key))?;
        Ok(Self {
            authority: authority.der().clone(),
            member: member.der().clone(),
            member_key: member_key.into(),
        })
    }

    fn calling(&self) -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(NoClock));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain(), self.key())?;
        // Connections are kept. A new one proves anew that both know the secret.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn answering(&self) -> Result<ServerConfig, IdentityError> {
        let roots = Arc::new(self.roots().map_err(failed)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(NoClock));
        let mut config = builder
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier.build().map_err(failed)?)
            .with_single_cert(self.chain(), self.key())
            .map_err(failed)?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        Ok(roots)
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.member.clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.member_key.clone_key())
    }
}

/// The authority is named after the secret, so that one of another cluster is unknown rather than
/// seemingly forged.
fn authority_params(fingerprint: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named(&format!("dulse cluster {fingerprint}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(of_all_times(params))
}

fn member_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![MEMBER_NAME.to_owned()])?;
    params.distinguished_name = named("dulse cluster member");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(of_all_times(params))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn of_all_times(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = date_time_ymd(LAST_YEAR, 12, 31);
    params
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// Says the same whenever it is asked: a secret does not expire.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(ASSUMED_TIME)
    }
}

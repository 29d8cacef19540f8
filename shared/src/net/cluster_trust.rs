//! What a failed handshake between two servers says about their secrets, in words for the logs of
//! both. Pure.
//!
//! With TLS 1.3 a caller is done before the other side has looked at its certificate, so it may hear
//! of a refusal only when it reads. Both places come here.

use std::{error::Error, io};

use rustls::AlertDescription;

/// Why two servers do not belong together, as the one that calls sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Distrust {
    /// The other has a secret too.
    #[error(
        "belongs to a cluster with another secret: give both servers the same \
         --cluster-secret-file"
    )]
    OtherSecret,
    /// The other has none, and this one does.
    #[error(
        "speaks no TLS, so it was started without a cluster secret: give it the same \
         --cluster-secret-file as this one"
    )]
    PeerHasNoSecret,
    /// This one has none, and the other does.
    #[error(
        "does not speak plain HTTP, so it belongs to a cluster with a secret: pass that cluster's \
         --cluster-secret-file"
    )]
    NoSecretHere,
}

impl Distrust {
    /// What an error on a connection with TLS means; `None` if it is about something else.
    pub(super) fn of_secure(error: &(dyn Error + 'static)) -> Option<Self> {
        match find_tls(error)? {
            rustls::Error::InvalidCertificate(_) => Some(Self::OtherSecret),
            rustls::Error::AlertReceived(alert) if is_about_certificates(*alert) => {
                Some(Self::OtherSecret)
            }
            rustls::Error::InvalidMessage(_) => Some(Self::PeerHasNoSecret),
            _ => None,
        }
    }

    /// The same on a connection without TLS.
    pub(super) fn of_plain(error: &(dyn Error + 'static)) -> Option<Self> {
        let http = causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>())?;
        http.is_parse().then_some(Self::NoSecretHere)
    }
}

/// Who was refused, as the one that is called sees it. Each is the rest of a sentence that begins
/// with its address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub(super) enum Stranger {
    #[error(
        "has a certificate that is not of this cluster: it was started with another \
         --cluster-secret-file"
    )]
    OtherSecret,
    #[error(
        "does not take this server for one of its cluster: it was started with another \
         --cluster-secret-file"
    )]
    DoesNotKnowUs,
    #[error(
        "has no certificate of this cluster: it was started without a --cluster-secret-file, or is \
         no server of it"
    )]
    NoCertificate,
    #[error(
        "speaks no TLS: it was started without a --cluster-secret-file, or is no server of this \
         cluster"
    )]
    Plain,
}

impl Stranger {
    /// Who it was, if the handshake failed because of that.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match find_tls(error)? {
            rustls::Error::InvalidCertificate(_) => Some(Self::OtherSecret),
            rustls::Error::AlertReceived(alert) if is_about_certificates(*alert) => {
                Some(Self::DoesNotKnowUs)
            }
            rustls::Error::NoCertificatesPresented => Some(Self::NoCertificate),
            rustls::Error::InvalidMessage(_) => Some(Self::Plain),
            _ => None,
        }
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

fn find_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| match cause.downcast_ref::<io::Error>() {
        // An I/O error names what it was made from as no cause of its own.
        Some(error) => error.get_ref()?.downcast_ref(),
        None => cause.downcast_ref(),
    })
}

/// An error, what caused it, and so on.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

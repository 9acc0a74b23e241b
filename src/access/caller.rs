//! Who asks, as far as it is known.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::actions::Need;

/// What one may do. Each may do what stands before it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Reader,
    /// Send samples, metrics and alerts.
    Sender,
    /// Change what others see or are told. Everybody who is let in, while no roles are set.
    #[default]
    Administrator,
}

impl Role {
    /// Whether it suffices.
    pub fn may(self, need: Need) -> bool {
        match need {
            Need::Read => true,
            Need::Send => self >= Self::Sender,
            Need::Administer => self == Self::Administrator,
        }
    }

    /// As it is shown: `reader`, `sender`, `administrator`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Sender => "sender",
            Self::Administrator => "administrator",
        }
    }
}

/// How somebody proved who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Nobody is asked.
    #[default]
    Nothing,
    /// A user's password.
    Password,
    /// A bearer token.
    Token,
    /// A client certificate.
    Certificate,
    /// A trusted proxy vouches.
    Proxy,
}

impl Proof {
    /// As the log writes it: `none`, `password`, `token`, `certificate`, `proxy`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Password => "password",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Proxy => "proxy",
        }
    }
}

/// Who asks. Cheap to clone. The default is somebody who was not asked and may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// A user's name, a token's file, a certificate's first name; empty when nobody asked.
    pub name: Arc<str>,
    /// How it is known.
    pub proof: Proof,
    /// The address of the client: behind a trusted proxy, the one that it names.
    pub address: Option<IpAddr>,
    /// What one may do.
    pub role: Role,
}

impl Caller {
    /// Whether one may do what needs that.
    pub fn may(&self, need: Need) -> bool {
        self.role.may(need)
    }

    /// Whether one may change what others see or are told: what pages ask.
    pub fn may_change(&self) -> bool {
        self.may(Need::Administer)
    }
}

/// In a sentence: ``user `ali` ``, ``the token in `ops.token` ``.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proof {
            Proof::Nothing => f.write_str("who does not say who it is"),
            Proof::Password => write!(f, "user `{}`", self.name),
            Proof::Token => write!(f, "the token in `{}`", self.name),
            Proof::Certificate => write!(f, "the client with certificate `{}`", self.name),
            Proof::Proxy => write!(f, "user `{}` of the proxy", self.name),
        }
    }
}

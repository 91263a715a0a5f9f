//! HTTP to servers that are neither GitHub nor the cluster, and that may be anybody's: public URLs, registries, the
//! operators' chat.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use hyper::body::Body;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Builder, Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::TokioExecutor,
};
use rustls_platform_verifier::ConfigVerifierExt;
use std::time::Duration;
use tower::{ServiceExt, util::BoxCloneSyncService};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Addresses = std::vec::IntoIter<SocketAddr>;
type Resolver = BoxCloneSyncService<Name, Addresses, std::io::Error>;
pub type HttpClient<B> = Client<HttpsConnector<HttpConnector<Resolver>>, B>;

/// Which servers may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any that the operator or previewd itself names.
    Anywhere,
    /// Only those with a public address: whoever named them is not to reach with previewd's hands what is near it.
    Public,
}

impl Reach {
    /// Whether an address, written out instead of a name, may be asked. Names are looked at as they are resolved.
    pub fn covers(self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Public => is_public(address),
        }
    }
}

/// A client that keeps up to `idle` connections to a host. Fails where the machine has no trusted certificates.
pub fn client<B>(reach: Reach, idle: usize) -> anyhow::Result<HttpClient<B>>
where
    B: Body + Send,
    B::Data: Send,
{
    let tls = rustls::ClientConfig::with_platform_verifier().context("no trusted certificates")?;
    let resolver = tower::service_fn(move |name| resolve(name, reach));
    let mut http = HttpConnector::new_with_resolver(BoxCloneSyncService::new(resolver));
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    let mut builder: Builder = Client::builder(TokioExecutor::new());
    Ok(builder.pool_max_idle_per_host(idle).build(https.wrap_connector(http)))
}

/// As browsers do it: `localhost` and all below it is this machine, whatever its name service says.
/// <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>
async fn resolve(name: Name, reach: Reach) -> Result<Addresses, std::io::Error> {
    let is_local = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
    let found: Vec<SocketAddr> = if is_local {
        vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]
    } else {
        GaiResolver::new().oneshot(name).await?.collect()
    };
    Ok(found.into_iter().filter(|address| reach.covers(address.ip())).collect::<Vec<_>>().into_iter())
}

/// Whether an address is one of the internet's. What is near previewd is not: this machine, private networks and
/// link-local addresses, where clouds serve their credentials.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped().or_else(|| nat64(address)) {
            Some(inside) => is_public_v4(inside),
            None => {
                let first = address.segments()[0];
                // Global unicast: <https://www.iana.org/assignments/ipv6-address-space/ipv6-address-space.xhtml>
                first & 0xe000 == 0x2000 && !(first == 0x2001 && address.segments()[1] == 0xdb8)
            }
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && second & 0xc0 == 64;
    !(first == 0
        || first >= 224
        || is_shared
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation())
}

/// The IPv4 address in one of the well-known prefix `64:ff9b::/96`, RFC 6052.
fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else { return None };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_public() {
        for (address, expected) in [
            ("1.1.1.1", true),
            ("140.82.121.33", true),
            ("2606:4700::1111", true),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("::ffff:1.1.1.1", true),
        ] {
            assert_eq!(is_public(address.parse().expect("an address")), expected, "{address}");
        }
    }

    #[tokio::test]
    async fn names_of_this_machine_are_not_public() {
        let resolved = async |reach| {
            let name: Name = "shop.localhost".parse().expect("a name");
            resolve(name, reach).await.expect("resolved").len()
        };
        assert_eq!((resolved(Reach::Anywhere).await, resolved(Reach::Public).await), (1, 0));
    }
}

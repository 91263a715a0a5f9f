//! HTTP without a library for the server: to those that may be anybody's (public URLs, registries, the operators' chat,
//! collectors), and to GitHub where no credentials of previewd's are needed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Limited, combinators::UnsyncBoxBody};
use hyper::body::{Body, Bytes};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::TokioExecutor,
};
use rustls_platform_verifier::ConfigVerifierExt;
use serde::de::DeserializeOwned;
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Addresses = std::vec::IntoIter<SocketAddr>;

/// Which servers may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any that the operator or previewd itself names.
    Anywhere,
    /// Only those with a public address: whoever named them is not to reach with previewd's hands what is near it.
    Public,
}

/// What a server answers, with its body still to be read.
pub type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A client of such servers. It follows no redirect. Cheap to clone.
pub struct HttpClient<B> {
    way: BoxCloneSyncService<Request<B>, Answer, io::Error>,
    reach: Reach,
}

impl<B> Clone for HttpClient<B> {
    fn clone(&self) -> Self {
        Self { way: self.way.clone(), reach: self.reach }
    }
}

impl<B> HttpClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Each request has a connection of its own. Fails where the machine has no trusted certificates.
    pub fn new(reach: Reach) -> anyhow::Result<Self> {
        let tls = rustls::ClientConfig::with_platform_verifier().context("no trusted certificates")?;
        let resolver = tower::service_fn(move |name| resolve(name, reach));
        let mut http = HttpConnector::new_with_resolver(BoxCloneSyncService::new(resolver));
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.wrap_connector(http));
        let way = client.map_response(|answer| answer.map(|body| body.map_err(io::Error::other).boxed_unsync()));
        Ok(Self::over(way.map_err(io::Error::other), reach))
    }

    /// One whose way to the servers is given.
    pub fn over<S>(way: S, reach: Reach) -> Self
    where
        S: Service<Request<B>, Response = Answer, Error = io::Error, Future: Send> + Clone + Send + Sync + 'static,
    {
        Self { way: BoxCloneSyncService::new(way), reach }
    }

    /// Sends a request and gives the answer with its body still to be read.
    pub async fn request(&self, request: Request<B>) -> anyhow::Result<Answer> {
        // Names are looked at as they are resolved; an address that is written out is no name.
        let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']);
        if self.reach == Reach::Public && host.parse().is_ok_and(|address| !is_public(address)) {
            bail!("{host} is no public address");
        }
        Ok(self.way.clone().oneshot(request).await?)
    }

    /// Sends a request and reads the answer, which must be a success, have come within `timeout` and be at most `longest`
    /// bytes of JSON. No error has the answer's text in it, which may hold secrets.
    pub async fn json<T: DeserializeOwned>(
        &self,
        mut request: Request<B>,
        timeout: Duration,
        longest: usize,
    ) -> anyhow::Result<T> {
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static("previewd"));
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let exchange = async {
            let answer = self.request(request).await?;
            if !answer.status().is_success() {
                bail!("it answered {}", answer.status());
            }
            let body = Limited::new(answer.into_body(), longest).collect().await;
            Ok(body.map_err(|_| anyhow::anyhow!("its answer is too long, or was cut"))?.to_bytes())
        };
        let body = tokio::time::timeout(timeout, exchange).await.context("no answer in time")??;
        serde_json::from_slice(&body).map_err(|_| anyhow::anyhow!("its answer is none that is known"))
    }
}

/// As browsers do it: `localhost` and all below it is this machine, whatever its name service says.
/// <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>
async fn resolve(name: Name, reach: Reach) -> Result<Addresses, io::Error> {
    let is_local = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
    let found: Vec<SocketAddr> = if is_local {
        vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]
    } else {
        GaiResolver::new().oneshot(name).await?.collect()
    };
    Ok(found
        .into_iter()
        .filter(|address| reach == Reach::Anywhere || is_public(address.ip()))
        .collect::<Vec<_>>()
        .into_iter())
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
                let second = address.segments()[1];
                // Global unicast: <https://www.iana.org/assignments/ipv6-address-space/ipv6-address-space.xhtml>, without
                // documentation, Teredo and 6to4, in which an IPv4 address may be any.
                first & 0xe000 == 0x2000 && first != 0x2002 && !(first == 0x2001 && matches!(second, 0 | 0xdb8))
            }
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let is_shared = first == 100 && second & 0xc0 == 64;
    // Special purposes: <https://www.iana.org/assignments/iana-ipv4-special-registry/iana-ipv4-special-registry.xhtml>
    let is_special = (first, second, third) == (192, 0, 0) || (first == 198 && second & 0xfe == 18);
    !(first == 0
        || first >= 224
        || is_shared
        || is_special
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
            ("198.18.0.1", false),
            ("192.0.0.1", false),
            ("2002:7f00:1::", false),
            ("2001::1", false),
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

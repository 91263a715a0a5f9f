//! From where a request comes, as the history keeps it and as tries are counted.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::HeaderMap,
    middleware::Next,
    response::Response,
};

use crate::{
    recipe::Cidr,
    store::{Interface, Origin},
};

/// What proxies say of whom they asked for, the nearest last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of whoever asks. None: the server does not see any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub Option<IpAddr>);

impl Client {
    pub(crate) fn origin(self, interface: Interface) -> Origin {
        Origin { interface, address: self.0 }
    }
}

/// Notes the client among the request's extensions.
pub(super) async fn note(State(proxies): State<Arc<[Cidr]>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
    let client = Client(peer.map(|peer| address(peer, request.headers(), &proxies)));
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// Proxies of the operator's are believed about whom they ask for, and nobody else.
fn address(peer: IpAddr, headers: &HeaderMap, proxies: &[Cidr]) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|range| range.contains(address));
    let said = headers.get_all(FORWARDED_FOR).into_iter().filter_map(|value| value.to_str().ok());
    let said: Vec<&str> = said.flat_map(|value| value.split(',')).collect();
    let mut nearest = peer;
    for address in said.iter().rev() {
        let (true, Ok(address)) = (is_proxy(nearest), address.trim().parse::<IpAddr>()) else { break };
        nearest = address.to_canonical();
    }
    nearest
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_proxies_of_the_operator_are_believed() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "192.0.2.0/24".parse().unwrap()];
        let table = [
            ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
            ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
            ("10.1.2.3", "1.1.1.1, 198.51.100.1, 192.0.2.9", "198.51.100.1"),
            ("10.1.2.3", "", "10.1.2.3"),
            ("10.1.2.3", "198.51.100.1, nonsense", "10.1.2.3"),
            ("10.1.2.3", "2001:db8::1", "2001:db8::1"),
        ];
        for (peer, said, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, HeaderValue::from_str(said).unwrap());
            let found = address(peer.parse().unwrap(), &headers, &proxies);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {said}");
        }
    }
}

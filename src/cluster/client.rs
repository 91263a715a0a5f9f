//! The connection: made on first use, made anew when its credentials ran out, and one way to send a request.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, header::ACCEPT};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1;
use kube::{
    Client,
    api::{GetParams, ObjectList, PartialObjectMeta, Resource},
    client::{Body, ClientBuilder},
    core::{Request as Build, Status},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::{
    ClusterError, KubernetesSettings, SettingsError,
    error::{Call, Failure},
};
use crate::environment::Namespace;

/// How long one call may take, its connection included. What writes under a lease needs more than this left of it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing came for this long is dead. Watches are silent for as long as nothing happens, but the
/// API server ends each after [`super::watch::WATCH_SECONDS`].
const READ_TIMEOUT: Duration = Duration::from_secs(super::watch::WATCH_SECONDS as u64 + 15);

/// A Kubernetes cluster. Clones share their connections.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    way: Way,
    client: Mutex<Option<Client>>,
}

/// How clients are made.
enum Way {
    Settings(KubernetesSettings),
    /// There is one, which stays.
    Given(Client),
}

impl Cluster {
    /// Checks the settings and the files that they name. Nothing is sent before the first call.
    pub async fn new(settings: KubernetesSettings) -> Result<Self, SettingsError> {
        settings.load().await?;
        Ok(Self { shared: Arc::new(Shared { way: Way::Settings(settings), client: Mutex::new(None) }) })
    }

    /// The cluster behind a client that is given, whatever its way there.
    pub fn with_client(client: Client) -> Self {
        Self { shared: Arc::new(Shared { way: Way::Given(client), client: Mutex::new(None) }) }
    }

    /// Whether this process runs in the cluster, as far as the settings say it.
    pub fn is_around_us(&self) -> bool {
        match &self.shared.way {
            Way::Settings(KubernetesSettings { kubeconfig, context }) => kubeconfig.is_none() && context.is_none(),
            Way::Given(_) => false,
        }
    }

    /// The cluster's id: the UID of its namespace kube-system, which lives as long as the cluster.
    pub async fn id(&self) -> Result<String, ClusterError> {
        let call = Call::new("read", "Namespace", "kube-system");
        let request = Build::new(v1::Namespace::url_path(&(), None)).get_metadata("kube-system", &GetParams::default());
        let found: PartialObjectMeta = self.read(&call, request).await?;
        uid_of(&call, &found)
    }

    /// The cluster's version, such as `v1.37.2`.
    pub async fn version(&self) -> Result<String, ClusterError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            git_version: String,
        }
        let call = Call::new("read", "version", "/version");
        let request = Request::get("/version").body(Vec::new()).map_err(|error| call.unexpected(&error))?;
        let version: Version = self.read(&call, Ok(request)).await?;
        Ok(version.git_version)
    }

    /// Whether the API server answers and says that it is ready. One small request.
    pub async fn ready(&self) -> Result<(), ClusterError> {
        let call = Call::new("read", "readiness", "/readyz");
        let request = Request::get("/readyz").body(Vec::new()).map_err(|error| call.unexpected(&error))?;
        self.send(&call, Ok(request)).await.map(drop)
    }

    /// Sends a request and gives the answer's body.
    pub(super) async fn send(&self, call: &Call<'_>, request: Built) -> Result<String, ClusterError> {
        self.try_send(call, request).await.map_err(|failure| failure.into_error(call))
    }

    /// As [`Self::send`], for callers to whom some of the API server's refusals mean something.
    pub(super) async fn try_send(&self, call: &Call<'_>, request: Built) -> Result<String, Failure> {
        let request = request.map_err(Failure::Build)?;
        let answered = tokio::time::timeout(CALL_TIMEOUT, async {
            let client = self.client().await?;
            exchange(&client, request).await
        });
        let result = answered.await.unwrap_or(Err(Failure::TimedOut));
        if let Err(failure) = &result {
            tracing::debug!(%call, failure = failure.explain(call), "a call to the Kubernetes API did not succeed");
            self.forget_refused_credentials(failure).await;
        }
        result
    }

    /// As [`Self::send`], and None where there is nothing of that name.
    pub(super) async fn send_optional(&self, call: &Call<'_>, request: Built) -> Result<Option<String>, ClusterError> {
        match self.try_send(call, request).await {
            Ok(body) => Ok(Some(body)),
            Err(Failure::Status(status)) if status.code == 404 => Ok(None),
            Err(failure) => Err(failure.into_error(call)),
        }
    }

    /// Sends a request and parses the answer. The parsing is done here, because kube's own logs the body where it fails.
    pub(super) async fn read<T: DeserializeOwned>(&self, call: &Call<'_>, request: Built) -> Result<T, ClusterError> {
        let body = self.send(call, request).await?;
        parse(call, &body)
    }

    /// The objects of one kind in a namespace, all at once: an environment's quota keeps them few.
    pub(super) async fn list<K>(
        &self,
        namespace: &Namespace,
        request: Built,
        kinds: &'static str,
    ) -> Result<Vec<K>, ClusterError>
    where
        K: Clone + DeserializeOwned,
    {
        let call = Call::new("list", kinds, "").in_namespace(namespace);
        let list: ObjectList<K> = self.read(&call, request).await?;
        Ok(list.items)
    }

    /// The client, made on first use.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let mut slot = self.shared.client.lock().await;
        if let Some(client) = slot.as_ref() {
            let expired = client.valid_until().is_some_and(|until| until <= k8s_openapi::jiff::Timestamp::now());
            if !expired {
                return Ok(client.clone());
            }
        }
        let client = match &self.shared.way {
            Way::Settings(settings) => connect(settings).await?,
            Way::Given(client) => client.clone(),
        };
        *slot = Some(client.clone());
        Ok(client)
    }

    /// Drops the connection where its credentials were refused: the files that the settings name may hold fresh ones by
    /// now, and the next call reads them again.
    pub(super) async fn forget_refused_credentials(&self, failure: &Failure) {
        if failure.is_unauthorized() {
            *self.shared.client.lock().await = None;
        }
    }
}

/// What kube's request builders give.
pub(super) type Built = Result<Request<Vec<u8>>, kube::core::request::Error>;

async fn connect(settings: &KubernetesSettings) -> Result<Client, Failure> {
    let mut config = settings.load().await.map_err(Failure::Settings)?;
    // A pass comes again by itself; kube's fifteen retries would hold its lease for minutes.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(CALL_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    // A kubeconfig may name a program that fetches the credentials; kube waits for it in place.
    let connected = tokio::task::spawn_blocking(move || Ok(ClientBuilder::try_from(config)?.build()));
    connected.await.map_err(|_| Failure::TimedOut)?.map_err(Failure::Transport)
}

/// Sends the request and reads the whole answer. kube's own `request_text` would log refusals with what they quote.
async fn exchange(client: &Client, request: Request<Vec<u8>>) -> Result<String, Failure> {
    let response = open(client, request).await?;
    let body = response.into_body().collect().await.map_err(Failure::Transport)?.to_bytes();
    String::from_utf8(body.into()).map_err(|error| Failure::Transport(kube::Error::FromUtf8(error)))
}

/// Sends the request and gives the answer with its body still to be read; a refusal is read to its end.
pub(super) async fn open(client: &Client, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
    let response = client.send(request.map(Body::from)).await.map_err(Failure::Transport)?;
    let code = response.status();
    if !code.is_client_error() && !code.is_server_error() {
        return Ok(response);
    }
    let body = response.into_body().collect().await.map_err(Failure::Transport)?.to_bytes();
    // Proxies and unknown paths answer in plain text or HTML.
    let mut status: Status = serde_json::from_slice(&body).unwrap_or_default();
    status.code = code.as_u16();
    Err(Failure::Status(status.boxed()))
}

/// Asks for the object's metadata alone in the answer: an applied Secret is not sent back.
pub(super) fn metadata_only(request: Built) -> Built {
    const METADATA: HeaderValue =
        HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");
    let mut request = request?;
    request.headers_mut().insert(ACCEPT, METADATA);
    Ok(request)
}

pub(super) fn parse<'a, T: Deserialize<'a>>(call: &Call<'_>, body: &'a str) -> Result<T, ClusterError> {
    serde_json::from_str(body).map_err(|error| {
        // serde_json's text may quote a value, so only the place is kept.
        let (line, column) = (error.line(), error.column());
        ClusterError::Unexpected { call: call.to_string(), why: format!("unreadable at line {line}, column {column}") }
    })
}

pub(super) fn uid_of<K: Resource>(call: &Call<'_>, object: &K) -> Result<String, ClusterError> {
    let uid = object.meta().uid.clone();
    uid.ok_or_else(|| ClusterError::Unexpected { call: call.to_string(), why: "it has no UID".to_owned() })
}

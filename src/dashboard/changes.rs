//! Pages that are live: whoever has one open hears that something changed, and looks again. One look a second for all of
//! them, and none where nobody has a page open.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::{Extension, extract::State, http::HeaderMap, response::Response};
use futures::{StreamExt, stream};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Dashboard,
    access::Asker,
    stream::{streamed, too_many},
};
use crate::{request::Client, store::Store};

const LOOK: Duration = Duration::from_secs(1);

/// What changes, for as long as somebody wants to know.
pub(super) struct Changes {
    store: Store,
    looking: Mutex<Weak<Look>>,
}

struct Look {
    /// What tells one state of the rows from another.
    state: watch::Receiver<String>,
    task: JoinHandle<()>,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Changes {
    pub fn new(store: Store) -> Self {
        Self { store, looking: Mutex::default() }
    }

    fn look(&self) -> Arc<Look> {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = looking.upgrade() {
            return look;
        }
        let (found, state) = watch::channel(String::new());
        let store = self.store.clone();
        let task = tokio::spawn(async move {
            loop {
                match store.state_of_environments().await {
                    Ok(now) => drop(found.send_if_modified(|known| {
                        let is_news = *known != now;
                        *known = now;
                        is_news
                    })),
                    Err(error) => tracing::debug!(%error, "could not look what changed"),
                }
                sleep(LOOK).await;
            }
        });
        let look = Arc::new(Look { state, task });
        *looking = Arc::downgrade(&look);
        look
    }
}

/// `changed` each time. That something of others changed tells nothing of it.
pub(super) async fn follow(
    State(dashboard): State<Arc<Dashboard>>,
    Asker(_): Asker,
    Extension(client): Extension<Client>,
    stop: Option<Extension<CancellationToken>>,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = dashboard.watchers.clone().try_acquire_owned() else { return too_many() };
    let look = dashboard.changes.look();
    let state = look.state.clone();
    let events = stream::unfold((look, state), |(look, mut state)| async move {
        state.changed().await.ok()?;
        Some(("event: changed\ndata:\n\n", (look, state)))
    });
    let end = dashboard.until_they_may_not(headers, client, None, stop.map(|it| it.0));
    streamed(events.take_until(Box::pin(end)), place)
}

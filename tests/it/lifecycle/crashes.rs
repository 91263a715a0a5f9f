//! previewd is killed after each of its writes to the outside, once it took effect and before its answer arrived, and
//! started again: the end is the same.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures::{FutureExt, StreamExt};
use kube::ResourceExt;
use previewd::environment::EnvironmentStatus;
use xtask::testing::eventually;

use super::{
    life::{Ground, Life, TO_RUNNING, node, recipe},
    objects::{in_the_cluster, in_the_inventory},
};

/// How many lives are lived at the same time: most of the time of each is a lease that must run out.
const AT_ONCE: usize = 4;

/// Kills previewd after its nth write.
struct Fuse {
    nth: usize,
    writes: AtomicUsize,
    crash: Mutex<Box<dyn Fn() + Send + Sync>>,
}

impl Fuse {
    fn lay(life: &Life, nth: usize) -> Arc<Self> {
        let crash = life.stand.server.as_ref().expect("previewd runs").crash_switch();
        let fuse = Arc::new(Self { nth, writes: AtomicUsize::new(0), crash: Mutex::new(Box::new(crash)) });
        let (of_cluster, of_github) = (fuse.clone(), fuse.clone());
        life.proxy.set_on_write(Some(Box::new(move |_, _| of_cluster.count())));
        life.stand.github.on_write(move |_| {
            let fuse = of_github.clone();
            async move { fuse.count() }.boxed()
        });
        fuse
    }

    fn count(&self) {
        if self.writes.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            (self.crash.lock().unwrap())();
        }
    }

    fn is_blown(&self) -> bool {
        self.writes.load(Ordering::SeqCst) >= self.nth
    }
}

/// Awaits the status, and starts previewd again where the fuse has ended it.
async fn until(life: &mut Life, number: u64, status: EnvironmentStatus, fuse: &Fuse, restarted: &mut bool) {
    let store = life.store();
    let has_status = async |life: &Life| life.row(&store, number).await.environment.status == status;
    let crashed = eventually("the status or a crash", TO_RUNNING, async || {
        let crashed = fuse.is_blown() && !*restarted;
        (crashed || has_status(life).await).then_some(crashed)
    })
    .await;
    if crashed {
        *restarted = true;
        life.begin().await;
        eventually("the status after a crash", TO_RUNNING, async || has_status(life).await.then_some(())).await;
    }
}

/// Awaits the comment's text, and starts previewd again where the fuse has ended it.
async fn until_commented(life: &mut Life, number: u64, text: &str, fuse: &Fuse, restarted: &mut bool) {
    let crashed = eventually("the comment or a crash", TO_RUNNING, async || {
        let crashed = fuse.is_blown() && !*restarted;
        let commented = life.comments(number).iter().any(|comment| comment.contains(text));
        // The fuse counts a write before its answer: a pass that has ended was not killed in it.
        (crashed || (commented && !life.is_leased())).then_some(crashed)
    })
    .await;
    if crashed {
        *restarted = true;
        life.begin().await;
    }
    life.until_commented(number, text).await;
}

/// Opens a pull request and closes it, with a crash after the nth write. Whether there were as many.
async fn live_with_a_crash(ground: &Ground, nth: usize) -> bool {
    let mut life = Life::start(ground, &format!("crash-{nth}")).await;
    let fuse = Fuse::lay(&life, nth);
    let mut restarted = false;
    let number = life.open("change", &recipe("ok")).await;
    until(&mut life, number, EnvironmentStatus::Running, &fuse, &mut restarted).await;
    until_commented(&mut life, number, "is running", &fuse, &mut restarted).await;

    let store = life.store();
    let row = life.row(&store, number).await.environment;
    let namespaces = life.namespaces().await;
    assert_eq!(namespaces.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), [row.namespace.to_string()]);
    assert_eq!(in_the_cluster(&life, &row).await, in_the_inventory(&store, &row).await, "after write {nth}");
    let history = store.deployments_of(&row.id, 10).await.unwrap();
    assert_eq!((history.len(), history[0].attempt, history[0].round), (1, 1, 1), "after write {nth}: {history:?}");
    assert_eq!(life.comments(number).len(), 1);

    life.stand.github.close(&life.repository, number).await.unwrap();
    until(&mut life, number, EnvironmentStatus::Deleted, &fuse, &mut restarted).await;
    until_commented(&mut life, number, "was removed", &fuse, &mut restarted).await;
    assert!(life.namespaces().await.is_empty());
    life.finish().await;
    restarted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_write_changes_nothing_in_the_end() {
    let Some(ground) = node().await else { return };
    let lives = futures::stream::iter(1..).map(|nth| live_with_a_crash(ground, nth)).buffered(AT_ONCE);
    let crashes = lives.take_while(|crashed| std::future::ready(*crashed)).count().await;
    println!("{crashes} writes, and a crash after each");
    // Namespace, walls, three objects, a comment and its edit; then the namespace's deletion and the last edit.
    assert!(crashes >= 12, "only {crashes} writes were seen");
}

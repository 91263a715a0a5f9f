//! What may be sent to GitHub: counted for all processes together.

use std::time::Duration;

use previewd::{environment::Urgency, store::Turn};

use super::database::for_each_database;

#[tokio::test]
async fn writes_are_counted_once_for_all_processes() {
    for_each_database(async |database| {
        let writes = (0..60).map(|_| {
            // Each as a process of its own would.
            let store = database.store();
            tokio::spawn(async move { store.take_write(Some(7), Urgency::Normal).await.unwrap() })
        });
        let mut granted = 0;
        for write in writes.collect::<Vec<_>>() {
            granted += usize::from(write.await.unwrap() == Turn::Now);
        }
        assert_eq!(granted, 45, "60 % of a minute's");
        let store = database.store();
        assert_eq!(store.take_write(Some(7), Urgency::High).await.unwrap(), Turn::Now);
        assert_eq!(store.take_write(Some(8), Urgency::Low).await.unwrap(), Turn::Now, "another installation's");
        assert_eq!(store.take_write(None, Urgency::Low).await.unwrap(), Turn::Now, "a token's");
    })
    .await;
}

#[tokio::test]
async fn nobody_asks_while_github_wants_silence() {
    for_each_database(async |database| {
        let store = database.store();
        assert_eq!(store.may_read(Some(7)).await.unwrap(), Turn::Now);
        store.block_github(Some(7), Duration::from_secs(30)).await.unwrap();
        store.block_github(Some(7), Duration::from_secs(5)).await.unwrap();
        for turn in [store.may_read(Some(7)).await.unwrap(), store.take_write(Some(7), Urgency::High).await.unwrap()] {
            let Turn::After(wait) = turn else { panic!("it is not over") };
            assert!(Duration::from_secs(25) < wait && wait <= Duration::from_secs(30), "{wait:?}");
        }
        assert_eq!(store.may_read(Some(8)).await.unwrap(), Turn::Now);
    })
    .await;
}

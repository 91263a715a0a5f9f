//! What is old goes, what is not stays, and a newer schema does not matter.

use previewd::{
    environment::EnvironmentStatus,
    store::{EnvironmentChanges, Migrate, Record, Retention, migrate},
};

use super::{
    database::for_each_database,
    given::{
        claim, claimed_environment, commit, made, many_environments, pull_request, record_deployment, render_of,
        tell_of,
    },
};

#[tokio::test]
async fn what_is_old_is_forgotten() {
    for_each_database(async |database| {
        let store = database.store();
        many_environments(database, 500).await;
        let (lease, _) = claimed_environment(&store).await;
        record_deployment(&store, &lease, commit(1)).await;
        store
            .begin_apply(&lease, &commit(1), &render_of(&["a"]), made(&render_of(&["a"])), false)
            .await
            .unwrap()
            .unwrap();
        let count =
            async |table: &str| database.line(&format!("SELECT CAST(count(*) AS TEXT) AS line FROM {table}")).await;
        let kept = Retention { deliveries: None, events: None };
        // What was applied for every tenth, which is gone, goes at once: three objects of each.
        assert_eq!(store.forget(kept).await.unwrap(), 150);
        assert_eq!(store.forget(kept).await.unwrap(), 0);
        // All but what was just recorded is from the year 1970.
        let a_day = Some(24 * 3_600_000);
        assert_eq!(store.forget(Retention { deliveries: a_day, events: a_day }).await.unwrap(), 1_000);
        assert_eq!((count("deliveries").await, count("events").await), ("1".to_owned(), "1".to_owned()));
        assert_eq!((count("environments").await, count("renders").await), ("501".to_owned(), "1".to_owned()));

        let gone = EnvironmentChanges::status(EnvironmentStatus::Deleted, None).nothing_applied();
        store.record(&lease, Record { environment: Some(gone), ..Record::default() }).await.unwrap().unwrap();
        assert_eq!(store.forget(kept).await.unwrap(), 1, "its object; the render went with the record");
        assert_eq!((count("renders").await, count("objects").await), ("0".to_owned(), "1350".to_owned()));
    })
    .await;
}

/// A replica of this version beside one of the next, which has migrated already.
#[tokio::test]
async fn this_version_runs_on_the_next_ones_tables() {
    for_each_database(async |database| {
        let text = "ALTER TABLE environments ADD COLUMN next_one TEXT; CREATE TABLE next_ones (id BIGINT NOT NULL); \
                    INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')";
        database.execute(text).await;
        for mode in [Migrate::Auto, Migrate::Check] {
            assert_eq!(migrate(&database.url, mode).await.unwrap(), 0);
        }
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        let lease = claim(&store).await;
        record_deployment(&store, &lease, commit(1)).await;
        let shown = EnvironmentChanges::status(EnvironmentStatus::Running, None);
        store.record(&lease, Record { environment: Some(shown), ..Record::default() }).await.unwrap().unwrap();
        store.release(&lease, None, 0, true).await.unwrap();
    })
    .await;
}

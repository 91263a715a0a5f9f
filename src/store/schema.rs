//! The tables, as the migrations make them on both databases; a test compares this file with the live catalogs.

diesel::table! {
    installation (id) {
        id -> BigInt,
        installation_id -> Text,
        cluster_id -> Nullable<Text>,
        oldest_generation -> BigInt,
        created_at -> BigInt,
        sampled_at -> Nullable<BigInt>,
        sampling_problem -> Nullable<Text>,
    }
}

diesel::table! {
    repositories (github_id) {
        github_id -> BigInt,
        owner -> Text,
        name -> Text,
        app_installation_id -> Nullable<BigInt>,
        default_branch -> Text,
        state -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        swept_at -> BigInt,
        pulls_etag -> Nullable<Text>,
        pulls_digest -> Nullable<Text>,
    }
}

diesel::table! {
    pull_requests (github_id) {
        github_id -> BigInt,
        repository_id -> BigInt,
        number -> BigInt,
        title -> Text,
        author -> Text,
        head_sha -> Text,
        head_ref -> Text,
        base_ref -> Text,
        from_fork -> Bool,
        draft -> Bool,
        state -> Text,
        labels -> Text,
        github_updated_at -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
        label_ids -> Text,
    }
}

diesel::table! {
    environments (id) {
        id -> Text,
        pull_request_id -> BigInt,
        namespace -> Text,
        status -> Text,
        reason -> Nullable<Text>,
        message -> Nullable<Text>,
        revision -> BigInt,
        refresh -> Bool,
        hold -> Text,
        serving_commit -> Nullable<Text>,
        comment_id -> Nullable<BigInt>,
        comment_digest -> Nullable<Text>,
        due_at -> Nullable<BigInt>,
        lease_token -> Nullable<Text>,
        lease_until -> BigInt,
        failures -> BigInt,
        observed_at -> Nullable<BigInt>,
        deletion_started_at -> Nullable<BigInt>,
        created_by -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        deleted_at -> Nullable<BigInt>,
        applied_commit -> Nullable<Text>,
        good_commit -> Nullable<Text>,
        trigger_label -> Nullable<Text>,
        requested -> Bool,
        used_at -> BigInt,
        keep_until -> Nullable<BigInt>,
        terms -> Nullable<Text>,
        queued_at -> Nullable<BigInt>,
        admitted_at -> Nullable<BigInt>,
        checked_at -> BigInt,
    }
}

diesel::table! {
    standings (environment_id) {
        environment_id -> Text,
        asleep -> Bool,
        fresh -> Bool,
        half_applied -> Bool,
        reset_at -> Nullable<BigInt>,
        down_since -> Nullable<BigInt>,
        hitch -> Nullable<Text>,
        hitch_since -> Nullable<BigInt>,
        told -> Nullable<Text>,
        trouble -> Nullable<Text>,
        trouble_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    deployments (id) {
        id -> Text,
        environment_id -> Text,
        commit_sha -> Text,
        status -> Text,
        reason -> Nullable<Text>,
        message -> Nullable<Text>,
        round -> BigInt,
        attempt -> BigInt,
        attempt_deadline -> Nullable<BigInt>,
        retry_at -> Nullable<BigInt>,
        recipe -> Nullable<Text>,
        applied_digest -> Nullable<Text>,
        created_at -> BigInt,
        started_at -> Nullable<BigInt>,
        finished_at -> Nullable<BigInt>,
        github_id -> Nullable<BigInt>,
        github_state -> Nullable<Text>,
        readiness -> Nullable<Text>,
        awaited_images -> Nullable<Text>,
        images_deadline -> Nullable<BigInt>,
        phase -> BigInt,
        github_description -> Nullable<Text>,
        done_jobs -> Nullable<Text>,
    }
}

diesel::table! {
    objects (environment_id, api_version, kind, name) {
        environment_id -> Text,
        api_version -> Text,
        kind -> Text,
        name -> Text,
        digest -> Text,
        phase -> BigInt,
        done -> Bool,
        once -> Bool,
    }
}

diesel::table! {
    renders (deployment_id) {
        deployment_id -> Text,
        body -> Text,
        key -> Nullable<Text>,
        ran_body -> Nullable<Text>,
        ran_key -> Nullable<Text>,
    }
}

diesel::table! {
    deliveries (guid) {
        guid -> Text,
        event -> Text,
        action -> Nullable<Text>,
        repository -> Nullable<Text>,
        number -> Nullable<BigInt>,
        head_sha -> Nullable<Text>,
        received_at -> BigInt,
        outcome -> Text,
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    events (id) {
        id -> Text,
        environment_id -> Nullable<Text>,
        at -> BigInt,
        actor -> Text,
        kind -> Text,
        detail -> Nullable<Text>,
        interface -> Nullable<Text>,
        address -> Nullable<Text>,
        refusal -> Nullable<Text>,
    }
}

diesel::table! {
    tokens (id) {
        id -> Text,
        subject -> Text,
        hash -> Text,
        role -> Text,
        teams -> Text,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        repository -> Nullable<Text>,
        pull_request -> Nullable<BigInt>,
    }
}

diesel::table! {
    engines (id) {
        id -> Text,
        heartbeat -> BigInt,
    }
}

diesel::joinable!(pull_requests -> repositories (repository_id));
diesel::table! {
    approvals (pull_request_id, commit_sha) {
        pull_request_id -> BigInt,
        commit_sha -> Text,
        actor -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    commands (kind, comment_id, place) {
        kind -> Text,
        comment_id -> BigInt,
        place -> BigInt,
        delivery_guid -> Text,
        repository_id -> BigInt,
        number -> BigInt,
        author -> Text,
        line -> Text,
        created_at -> BigInt,
        accepted -> Nullable<Bool>,
        answer -> Nullable<Text>,
        answered_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    idempotency (subject, idempotency_key) {
        subject -> Text,
        idempotency_key -> Text,
        request_digest -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    github_budgets (app_installation_id) {
        app_installation_id -> BigInt,
        blocked_until -> BigInt,
        minute_began -> BigInt,
        minute_writes -> BigInt,
        minute_before -> BigInt,
        hour_began -> BigInt,
        hour_writes -> BigInt,
        hour_before -> BigInt,
        sweep_began -> BigInt,
        sweep_reads -> BigInt,
    }
}

diesel::table! {
    leases (name) {
        name -> Text,
        holder -> Text,
        lease_until -> BigInt,
        done_at -> BigInt,
    }
}

diesel::table! {
    orphans (namespace) {
        namespace -> Text,
        found_at -> BigInt,
        removed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    sessions (hash) {
        hash -> Text,
        kind -> Text,
        environment_id -> Nullable<Text>,
        granted -> Text,
        created_at -> BigInt,
        expires_at -> BigInt,
    }
}

diesel::table! {
    kept_logs (deployment_id, place) {
        deployment_id -> Text,
        place -> BigInt,
        pod -> Text,
        container -> Text,
        body -> Text,
    }
}

diesel::table! {
    usage_samples (environment_id) {
        environment_id -> Text,
        sampled_at -> Nullable<BigInt>,
        cpu_millicores -> Nullable<BigInt>,
        memory_bytes -> Nullable<BigInt>,
        restarts -> BigInt,
        out_of_memory -> BigInt,
    }
}

diesel::table! {
    usage_buckets (environment_id, bucket) {
        environment_id -> Text,
        bucket -> BigInt,
        samples -> BigInt,
        cpu_millicores -> BigInt,
        memory_bytes -> BigInt,
        cpu_peak -> BigInt,
        memory_peak -> BigInt,
    }
}

diesel::joinable!(approvals -> pull_requests (pull_request_id));
diesel::joinable!(environments -> pull_requests (pull_request_id));
diesel::joinable!(deployments -> environments (environment_id));
diesel::joinable!(renders -> deployments (deployment_id));
diesel::joinable!(objects -> environments (environment_id));
diesel::joinable!(standings -> environments (environment_id));
diesel::joinable!(usage_samples -> environments (environment_id));
diesel::joinable!(kept_logs -> deployments (deployment_id));
diesel::joinable!(events -> environments (environment_id));

diesel::allow_tables_to_appear_in_same_query!(
    repositories,
    pull_requests,
    environments,
    deployments,
    renders,
    objects,
    events,
    kept_logs,
    usage_samples,
    deliveries,
    standings
);

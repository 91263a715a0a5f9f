//! The played cluster's controllers, and its kubelet: what they do whenever something changed, and when they look next.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Images,
    admission::quota_refuses,
    pod::{Phase, Pod, Template},
    state::{Claim, Namespace, State},
    workload::{End, Kind, Workload, replica_set_name},
};

/// From the deletion of a namespace to the moment in which what is in it goes, and to its end.
const LOOKS_INSIDE_AFTER: Duration = Duration::from_secs(5);
const NAMESPACE_TAKES: Duration = Duration::from_secs(9);
/// Controllers try again what was refused.
const TRIES_AGAIN: Duration = Duration::from_secs(2);
/// Pods of a node that is lost are given up by then.
const GIVES_UP_LOST: Duration = Duration::from_secs(20);

impl State {
    /// Brings everything up to `now`.
    pub fn advance(&mut self, images: &Images, now: Instant) {
        let names: Vec<String> = self.namespaces.keys().cloned().collect();
        let mut next: Option<Instant> = None;
        for name in names {
            let Some(mut found) = self.namespaces.remove(&name) else { continue };
            while self.reconcile(&name, &mut found, images, now) {}
            self.tell(&name, &mut found, images, now);
            if found.gone_at().is_some_and(|at| at <= now) {
                self.change("namespaces", "DELETED", found.metadata_of_itself(&name));
                continue;
            }
            next = next.into_iter().chain(found.changes_at(images, now, self.takes_jobs_after)).min();
            self.namespaces.insert(name, found);
        }
        self.next = next;
    }

    /// Gives whether something was done, after which there may be more to do.
    fn reconcile(&mut self, name: &str, found: &mut Namespace, images: &Images, now: Instant) -> bool {
        let mut done = false;
        if found.deleted_at.is_some_and(|at| at + LOOKS_INSIDE_AFTER <= now) && !found.is_empty() {
            found.empty(now);
            done = true;
        }
        for pod in found.collect_what_is_gone(images, now) {
            self.change("pods", "DELETED", found.metadata(name, &pod));
            done = true;
        }
        let owners: Vec<(Kind, String)> = found.workloads.keys().cloned().collect();
        for (kind, owner) in owners {
            done |= match kind {
                Kind::Deployment => self.roll_out(found, &owner, images, now),
                Kind::StatefulSet => self.roll_out_set(found, &owner, images, now),
                Kind::Job => self.run_job(name, found, &owner, images, now),
            };
        }
        done |= found.begin_pods(now);
        done
    }

    /// Tells those who watch of pods that look different, and of what made them.
    fn tell(&mut self, namespace: &str, found: &mut Namespace, images: &Images, now: Instant) {
        let (mut pods, mut owners) = (Vec::new(), BTreeSet::new());
        for pod in found.pods.values_mut() {
            let owner = found.workloads.get(&pod.owner);
            let is_available = owner.is_some_and(|owner| owner.has_available(pod, images, now));
            let seen = Some((pod.phase(images, now), pod.ends(), is_available));
            if seen != pod.told {
                pod.told = seen;
                pods.push(pod.name.clone());
                owners.insert(pod.owner.clone());
            }
        }
        for pod in pods {
            self.change("pods", "MODIFIED", found.metadata(namespace, &pod));
        }
        for (kind, name) in owners {
            self.change(kind.plural(), "MODIFIED", found.metadata(namespace, &name));
        }
    }

    /// Kubernetes' rolling update with one pod more than wanted and none less, and `Recreate`.
    fn roll_out(&mut self, found: &mut Namespace, name: &str, images: &Images, now: Instant) -> bool {
        let workload = &found.workloads[&(Kind::Deployment, name.to_owned())];
        let (wanted, newest) = (workload.replicas, Arc::clone(&workload.newest().template));
        let recreates = workload.body["spec"]["strategy"]["type"] == "Recreate";
        let is_available = |pod: &&Pod| workload.has_available(pod, images, now);
        let living: Vec<&Pod> = found.pods_of(Kind::Deployment, name).filter(|pod| !pod.ends()).collect();
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = living.iter().partition(|pod| Arc::ptr_eq(&pod.template, &newest));
        let mut ends: Vec<String> = new.iter().skip(wanted).map(|pod| pod.name.clone()).collect();
        let most = if recreates { wanted } else { wanted + usize::from(wanted > 0) };
        let mut makes = wanted.saturating_sub(new.len()).min(most.saturating_sub(living.len()));
        if recreates {
            ends.extend(old.iter().map(|pod| pod.name.clone()));
            let has_older = found.pods_of(Kind::Deployment, name).any(|pod| !Arc::ptr_eq(&pod.template, &newest));
            if has_older {
                makes = 0;
            }
        } else {
            let unavailable = new.iter().filter(|pod| !is_available(pod)).count() + makes;
            let mut may_end = (living.len() + makes).saturating_sub(wanted + unavailable);
            // Those that do not work go first.
            let (working, broken): (Vec<&&Pod>, Vec<&&Pod>) = old.iter().partition(|pod| is_available(pod));
            let mut available = living.iter().filter(|pod| is_available(pod)).count();
            for pod in broken {
                if may_end > 0 {
                    ends.push(pod.name.clone());
                    may_end -= 1;
                }
            }
            for pod in working {
                if available > wanted {
                    ends.push(pod.name.clone());
                    available -= 1;
                }
            }
        }
        for pod in &ends {
            found.end_pod(pod, now);
        }
        let mut made = false;
        for _ in 0..makes {
            made |= self.make_pod(found, Kind::Deployment, name, None, images, now);
        }
        made || !ends.is_empty()
    }

    /// In order, each once the one before it is ready: a pod that never will be is waited for, also by what would
    /// replace it.
    fn roll_out_set(&mut self, found: &mut Namespace, name: &str, images: &Images, now: Instant) -> bool {
        let workload = &found.workloads[&(Kind::StatefulSet, name.to_owned())];
        let (wanted, newest) = (workload.replicas, Arc::clone(&workload.newest().template));
        let surplus: Vec<String> =
            found.pods_of(Kind::StatefulSet, name).filter(|pod| !pod.ends()).map(|pod| pod.name.clone()).collect();
        if surplus.len() > wanted {
            let last = surplus.last().cloned().unwrap_or_default();
            found.end_pod(&last, now);
            return true;
        }
        for ordinal in 0..wanted {
            match found.pods.get(&format!("{name}-{ordinal}")) {
                None => return self.make_pod(found, Kind::StatefulSet, name, Some(ordinal), images, now),
                Some(pod) if !pod.ends() && pod.phase(images, now) == Phase::Ready => {}
                Some(_) => return false,
            }
        }
        for ordinal in (0..wanted).rev() {
            let pod = format!("{name}-{ordinal}");
            if found.pods.get(&pod).is_some_and(|pod| !Arc::ptr_eq(&pod.template, &newest)) {
                found.end_pod(&pod, now);
                return true;
            }
        }
        let hash = found.workloads[&(Kind::StatefulSet, name.to_owned())].newest().hash().to_owned();
        if let Some(workload) = found.workloads.get_mut(&(Kind::StatefulSet, name.to_owned())) {
            workload.current = hash;
        }
        false
    }

    fn run_job(&mut self, namespace: &str, found: &mut Namespace, name: &str, images: &Images, now: Instant) -> bool {
        let key = (Kind::Job, name.to_owned());
        let workload = &found.workloads[&key];
        if let Some(end) = workload.end {
            if workload.stays(self.takes_jobs_after).is_some_and(|stays| end.at + stays <= now) {
                found.remove_workload(Kind::Job, name, now);
                self.change("jobs", "DELETED", found.metadata(namespace, name));
                return true;
            }
            return false;
        }
        let tries = workload.body["spec"]["backoffLimit"].as_u64().unwrap_or(6) + 1;
        let pods: Vec<&Pod> = found.pods_of(Kind::Job, name).filter(|pod| pod.owner_uid == workload.uid).collect();
        let failed = pods.iter().filter(|pod| pod.ends() || pod.phase(images, now) == Phase::Failed).count();
        let wants_another = pods.len() == failed;
        let ended = if pods.iter().any(|pod| pod.phase(images, now) == Phase::Succeeded) {
            Some(true)
        } else {
            (failed as u64 >= tries).then_some(false)
        };
        if let (Some(well), Some(workload)) = (ended, found.workloads.get_mut(&key)) {
            workload.end = Some(End { at: now, well });
            let image = workload.newest().template.image.clone();
            *self.done.entry((found.uid.clone(), name.to_owned(), image)).or_default() += usize::from(well);
            return true;
        }
        wants_another && self.make_pod(found, Kind::Job, name, None, images, now)
    }

    /// Gives whether there was room for it.
    fn make_pod(
        &mut self,
        found: &mut Namespace,
        kind: Kind,
        owner: &str,
        ordinal: Option<usize>,
        images: &Images,
        now: Instant,
    ) -> bool {
        if found.deleted_at.is_some() {
            return false;
        }
        let uid = self.uid();
        let key = (kind, owner.to_owned());
        let workload = &found.workloads[&key];
        let newest = workload.newest();
        let (template, hash) = (Arc::clone(&newest.template), newest.hash().to_owned());
        let end = uid.rsplit('-').next().unwrap_or_default();
        let (name, owner_uid) = match (kind, ordinal) {
            (Kind::Deployment, _) => (format!("{}-{end}", replica_set_name(owner, newest)), newest.uid.clone()),
            (Kind::StatefulSet, Some(ordinal)) => (format!("{owner}-{ordinal}"), workload.uid.clone()),
            (Kind::Job | Kind::StatefulSet, _) => (format!("{owner}-{end}"), workload.uid.clone()),
        };
        let refusal = quota_refuses(found, &name, &template, images, now);
        let own_claims = ordinal.map(|_| claims_of_set(&workload.body, &name)).unwrap_or_default();
        let is_refused = refusal.is_some();
        if let Some(workload) = found.workloads.get_mut(&key) {
            workload.refusal = refusal.map(|text| match workload.refusal.take() {
                Some((since, _)) => (since, text),
                None => (now, text),
            });
        }
        if is_refused {
            return false;
        }
        let claims = template.claims().chain(own_claims.iter().map(|(name, _)| name.clone())).collect();
        for (claim, body) in own_claims {
            let uid = self.uid();
            found.claims.entry(claim).or_insert(Claim { uid, body, goes: false, data: BTreeSet::new() });
        }
        let pod = Pod {
            name: name.clone(),
            uid,
            owner: key,
            owner_uid,
            claims,
            hash,
            template,
            made_at: now,
            lacks: None,
            began_at: None,
            gone_at: None,
            lost_at: None,
            told: None,
            has_written: false,
        };
        found.pods.insert(name, pod);
        true
    }
}

/// The claims of a StatefulSet's pod, by the names that its controller gives them.
fn claims_of_set(set: &Value, pod: &str) -> Vec<(String, Value)> {
    let templates = set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    let named = templates.map(|template| {
        (format!("{}-{pod}", template["metadata"]["name"].as_str().unwrap_or_default()), template.clone())
    });
    named.collect()
}

impl Workload {
    /// How long a Job stays once it ended. None: for good.
    fn stays(&self, at_most: Option<Duration>) -> Option<Duration> {
        let own = self.body["spec"]["ttlSecondsAfterFinished"].as_u64().map(Duration::from_secs);
        own.into_iter().chain(at_most).min()
    }

    /// Whether a pod of it counts as available: it stayed ready for a while.
    pub fn has_available(&self, pod: &Pod, images: &Images, now: Instant) -> bool {
        let stays = Duration::from_secs(self.body["spec"]["minReadySeconds"].as_u64().unwrap_or(0));
        !pod.ends() && pod.ready_since(images, now).is_some_and(|since| since + stays <= now)
    }
}

impl Namespace {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.workloads.is_empty() && self.claims.is_empty()
    }

    fn empty(&mut self, now: Instant) {
        let pods: Vec<String> = self.pods.keys().cloned().collect();
        pods.iter().for_each(|pod| self.end_pod(pod, now));
        self.objects.clear();
        self.workloads.clear();
        self.claims.clear();
    }

    fn gone_at(&self) -> Option<Instant> {
        self.deleted_at.map(|at| at + NAMESPACE_TAKES.max(self.holds_for))
    }

    /// Takes away pods and claims that are gone by now, gives up what a lost node had, and has pods write. Gives the pods
    /// that are gone.
    fn collect_what_is_gone(&mut self, images: &Images, now: Instant) -> Vec<String> {
        let (pods, claims) = (&mut self.pods, &mut self.claims);
        for pod in pods.values_mut() {
            if pod.lost_at.is_some_and(|at| at + GIVES_UP_LOST <= now) {
                pod.gone_at.get_or_insert(now);
            }
            if !pod.has_written && pod.phase(images, now) == Phase::Ready {
                pod.has_written = true;
                let mark = pod.template.commit.clone().unwrap_or_else(|| "rows".to_owned());
                for claim in &pod.claims {
                    if let Some(claim) = claims.get_mut(claim) {
                        claim.data.insert(mark.clone());
                    }
                }
            }
        }
        let is_gone = |pod: &&Pod| pod.gone_at.is_some_and(|at| at <= now);
        let gone: Vec<String> = pods.values().filter(is_gone).map(|pod| pod.name.clone()).collect();
        pods.retain(|name, _| !gone.contains(name));
        claims.retain(|name, claim| !claim.goes || pods.values().any(|pod| pod.claims.contains(name)));
        gone
    }

    /// The kubelet begins with pods whose claims are there, and what they read.
    fn begin_pods(&mut self, now: Instant) -> bool {
        let mut began = false;
        for pod in self.pods.values_mut().filter(|pod| pod.began_at.is_none() && !pod.ends()) {
            if pod.claims.iter().all(|name| self.claims.get(name).is_some_and(|claim| !claim.goes)) {
                let is_missing =
                    |name: &&str| !self.objects.contains_key(&("configmaps".to_owned(), (*name).to_owned()));
                pod.lacks = pod.template.configuration().find(is_missing).map(str::to_owned);
                if pod.lacks.is_none() {
                    pod.began_at = Some(now);
                    began = true;
                }
            }
        }
        began
    }

    /// When something of it is next to be looked at.
    fn changes_at(&self, images: &Images, now: Instant, takes_jobs_after: Option<Duration>) -> Option<Instant> {
        let of_pod = |pod: &Pod| {
            let given_up = pod.lost_at.map(|at| at + GIVES_UP_LOST);
            pod.changes_at(images, now).into_iter().chain(given_up).min()
        };
        let of_pods = self.pods.values().filter_map(of_pod);
        let available = self.workloads.iter().flat_map(|((kind, name), workload)| {
            let stays = Duration::from_secs(workload.body["spec"]["minReadySeconds"].as_u64().unwrap_or(0));
            self.pods_of(*kind, name).filter_map(move |pod| Some(pod.ready_since(images, now)? + stays))
        });
        let jobs =
            self.workloads.values().filter_map(|workload| Some(workload.end?.at + workload.stays(takes_jobs_after)?));
        let refused = self.workloads.values().filter(|workload| workload.refusal.is_some());
        let deletion = self.deleted_at.map(|at| at + LOOKS_INSIDE_AFTER);
        of_pods
            .chain(available)
            .chain(jobs)
            .chain(refused.map(|_| now + TRIES_AGAIN))
            .chain(deletion)
            .chain(self.gone_at())
            .filter(|at| *at > now)
            .min()
    }

    /// The metadata of the namespace's own object, for those who watch.
    pub fn metadata_of_itself(&self, name: &str) -> Value {
        json!({ "name": name, "uid": self.uid, "labels": self.labels })
    }
}

impl Template {
    /// What the quota counts of it, by the names of the resources.
    pub fn counted(&self) -> [(&'static str, u64); 2] {
        [("limits.cpu", self.limits.cpu), ("limits.memory", self.limits.memory)]
    }
}

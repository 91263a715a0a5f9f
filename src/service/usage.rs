//! What environments use, what it costs, and what is close to its limit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Service, ServiceError, answers::rfc3339, now};
use crate::{
    config::Prices,
    environment::Millis,
    recipe::Quota,
    store::{SAMPLE_FRESH, SAMPLED_EVERY, Sampling, Usage, UsageBucket},
};

/// Of its quota, from where on an environment is warned of, in hundredths.
const NEAR: i64 = 80;

/// What an hour of this costs. None where there are no prices.
pub(super) fn cost_of_an_hour(prices: &Prices, cpu_millicores: i64, memory_bytes: i64) -> Option<f64> {
    let Prices { cpu_core_hour, memory_gib_hour, currency: _ } = prices;
    let (cores, gibibytes) = (cpu_millicores as f64 / 1_000.0, memory_bytes as f64 / f64::from(1u32 << 30));
    (*cpu_core_hour > 0.0 || *memory_gib_hour > 0.0).then_some(cores * cpu_core_hour + gibibytes * memory_gib_hour)
}

/// What was used in these buckets costs. None where there are no prices.
fn cost(prices: &Prices, buckets: &[UsageBucket]) -> Option<Cost> {
    // What a sample stands for.
    let hours_each = SAMPLED_EVERY.as_secs_f64() / 3_600.0;
    let (cpu, memory) = buckets
        .iter()
        .fold((0, 0), |(cpu, memory), bucket| (cpu + bucket.cpu_millicores, memory + bucket.memory_bytes));
    let amount = cost_of_an_hour(prices, cpu, memory)? * hours_each;
    Some(Cost { last_day: (amount * 10_000.0).round() / 10_000.0, currency: prices.currency.clone() })
}

/// What an environment cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// In the last 24 hours, as far as it was sampled: an estimate from what it used.
    pub last_day: f64,
    pub currency: String,
}

/// What an environment uses of what it may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageSummary {
    pub cpu_quota_millicores: u64,
    pub memory_quota_bytes: u64,
    /// RFC 3339: when `cpu_millicores` and `memory_bytes` were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_at: Option<String>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// How often containers of its present pods were started again.
    pub restarts: i64,
    /// The highest of the last 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_peak_millicores: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<i64>,
    /// Absent where the operator has no prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What lists show of an environment's use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub cpu_millicores: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub warnings: Vec<String>,
}

/// All that is known of one environment's use.
pub(super) struct Used {
    pub figures: Figures,
    pub summary: UsageSummary,
    /// The last day, oldest first.
    pub buckets: Vec<UsageBucket>,
}

impl Figures {
    pub fn of(usage: Option<&Usage>, quota: &Quota, now: Millis) -> Self {
        let Some(usage) = usage else { return Self::default() };
        let is_fresh = usage.sampled_at.is_some_and(|at| now - at <= SAMPLE_FRESH);
        let (cpu, memory) = (usage.cpu_millicores.filter(|_| is_fresh), usage.memory_bytes.filter(|_| is_fresh));
        let mut warnings = Vec::new();
        let mut near = |what: &str, used: Option<i64>, of: u64| {
            let share = used.zip(i64::try_from(of).ok()).filter(|(_, of)| *of > 0).map(|(used, of)| used * 100 / of);
            if let Some(share) = share.filter(|share| *share >= NEAR) {
                warnings.push(format!("{what} at {share} % of its quota"));
            }
        };
        near("CPU", cpu, quota.cpu.0);
        near("memory", memory, quota.memory.0);
        if usage.out_of_memory > 0 {
            warnings.push("a container ran out of memory".to_owned());
        }
        match usage.restarts {
            0 => {}
            1 => warnings.push("a container was restarted".to_owned()),
            restarts => warnings.push(format!("{restarts} restarts of containers")),
        }
        Self { cpu_millicores: cpu, memory_bytes: memory, warnings }
    }
}

impl Service {
    /// What lists show of these environments' use, by their ids.
    pub(super) async fn figures(&self, ids: &[&str], now: Millis) -> Result<BTreeMap<String, Figures>, ServiceError> {
        let usage = self.store().usage_of(ids).await?;
        let quota = &self.shared.parts.renderer.policy.quota;
        Ok(usage.iter().map(|(id, usage)| (id.clone(), Figures::of(Some(usage), quota, now))).collect())
    }

    /// Why there are no figures. None: there are.
    pub(super) async fn unmeasured(&self) -> Result<Option<String>, ServiceError> {
        let Sampling { at, problem } = self.store().sampling().await?;
        Ok(match (problem, at) {
            (Some(problem), _) => Some(problem),
            (None, None) => Some("nothing was measured yet".to_owned()),
            (None, Some(at)) if now() - at > SAMPLE_FRESH => {
                Some(format!("nothing was measured since {}; no process of previewd's does", rfc3339(at)))
            }
            (None, Some(_)) => None,
        })
    }

    /// All that is known of one environment's use.
    pub(super) async fn usage(&self, id: &str, now: Millis) -> Result<Used, ServiceError> {
        let usage = self.store().usage_of(&[id]).await?.remove(id).unwrap_or_default();
        let buckets = self.store().usage_buckets(id).await?;
        let quota = &self.shared.parts.renderer.policy.quota;
        let summary = UsageSummary {
            cpu_quota_millicores: quota.cpu.0,
            memory_quota_bytes: quota.memory.0,
            sampled_at: usage.sampled_at.map(rfc3339),
            unavailable: self.unmeasured().await?,
            restarts: usage.restarts,
            cpu_peak_millicores: buckets.iter().map(|bucket| bucket.cpu_peak).max(),
            memory_peak_bytes: buckets.iter().map(|bucket| bucket.memory_peak).max(),
            cost: cost(&self.shared.parts.prices, &buckets),
        };
        Ok(Used { figures: Figures::of(Some(&usage), quota, now), summary, buckets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu: i64, memory: i64, restarts: i64, out_of_memory: i64) -> Usage {
        Usage {
            sampled_at: Some(1_000_000),
            cpu_millicores: Some(cpu),
            memory_bytes: Some(memory),
            restarts,
            out_of_memory,
        }
    }

    #[test]
    fn what_is_close_to_its_limit_is_warned_of() {
        let quota = Quota::default();
        let warnings = |usage: &Usage, now| Figures::of(Some(usage), &quota, now).warnings;
        assert!(warnings(&usage(399, 100 << 20, 0, 0), 1_000_000).is_empty());
        assert_eq!(warnings(&usage(400, 100 << 20, 0, 0), 1_000_000), ["CPU at 80 % of its quota"]);
        assert_eq!(warnings(&usage(5, 500 << 20, 0, 0), 1_000_000), ["memory at 97 % of its quota"]);
        let restarted = usage(5, 1 << 20, 3, 1);
        assert_eq!(warnings(&restarted, 1_000_000), ["a container ran out of memory", "3 restarts of containers"]);
        let stale = Figures::of(Some(&usage(500, 1, 0, 0)), &quota, 1_000_000 + SAMPLE_FRESH + 1);
        assert_eq!(stale, Figures::default(), "a sample of long ago says nothing of now");
    }

    #[test]
    fn what_was_used_has_its_price() {
        let prices = Prices { cpu_core_hour: 0.04, memory_gib_hour: 0.006, currency: "EUR".to_owned() };
        // An hour of half a core and a quarter of a GiB: 120 samples.
        let bucket = UsageBucket {
            bucket: 0,
            samples: 120,
            cpu_millicores: 120 * 500,
            memory_bytes: 120 * (256 << 20),
            cpu_peak: 500,
            memory_peak: 256 << 20,
        };
        assert_eq!(cost(&prices, &[bucket]).unwrap().last_day, 0.0215);
        assert_eq!(cost(&Prices::default(), &[bucket]), None);
    }
}
